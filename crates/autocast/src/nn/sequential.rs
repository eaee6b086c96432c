//! Layers one after another, by candle-nn's names.

use candle_core::{Module, Result, Tensor};

/// Layers of which each gets the output of the one before.
#[derive(Default)]
pub struct Sequential {
    layers: Vec<Box<dyn Module + Send + Sync>>,
}

/// A [`Sequential`] without layers, which gives back its input.
pub fn seq() -> Sequential {
    Sequential::default()
}

impl Sequential {
    /// The same with `layer` at its end.
    #[expect(clippy::should_implement_trait, reason = "candle-nn's name")]
    pub fn add<M: Module + Send + Sync + 'static>(mut self, layer: M) -> Self {
        self.layers.push(Box::new(layer));
        self
    }

    /// The same with a function at its end.
    pub fn add_fn<F>(self, f: F) -> Self
    where
        F: Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
    {
        self.add(candle_nn::func(f))
    }

    /// The number of layers.
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// The output of every layer.
    ///
    /// # Errors
    ///
    /// The first that a layer returns.
    pub fn forward_all(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let mut outputs = Vec::with_capacity(self.layers.len());
        let mut x = x.clone();
        for layer in &self.layers {
            x = layer.forward(&x)?;
            outputs.push(x.clone());
        }
        Ok(outputs)
    }
}

impl Module for Sequential {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.layers.iter().try_fold(x.clone(), |x, layer| layer.forward(&x))
    }
}
