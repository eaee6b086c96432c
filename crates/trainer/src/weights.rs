//! Weights by name, from a safetensors file that PyTorch, Lightning, candle or this crate wrote: all of them, or one at a time as a
//! model asks for them.

use std::collections::HashMap;
use std::path::Path;

use candle_core::Tensor;
use candle_nn::VarBuilder;

use crate::parameters::ParameterStore;
use crate::state::{WeightFile, tensors};
use crate::{Parameters, Result, Trainer};

/// Reads the tensors of a safetensors file, for [`TrainerBuilder::initial_values`](crate::TrainerBuilder::initial_values). Of a
/// [`TrainingState`](crate::TrainingState) these are the parameters.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches, folder};
/// use trainer::{Strictness, Trainer, load_weights, weights_under};
///
/// # let folder = folder("weights");
/// # std::fs::create_dir_all(&folder).unwrap();
/// # let file = folder.join("model.safetensors");
/// # Trainer::builder().accelerator("cpu").max_steps(1).build()?.fit(&Line, &batches(1)?)?.parameters.save(&file)?;
/// // Of a LightningModule, whose names begin with `model.`, this takes that away.
/// let mut weights = load_weights(&file)?;
/// if weights.keys().all(|name| name.starts_with("model.")) {
///     weights = weights_under("model.", weights);
/// }
/// let trainer = Trainer::builder().precision("bf16-mixed").accelerator("cpu").max_steps(2);
/// trainer.initial_values_with(weights, Strictness::Lenient).build()?.fit(&Line, &batches(1)?)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::NotAState`](crate::Error::NotAState) for a file that is damaged or no safetensors file, naming what is wrong with
/// it; [`Error::Io`](crate::Error::Io) for one that cannot be read.
pub fn load_weights(path: impl AsRef<Path>) -> Result<HashMap<String, Tensor>> {
    tensors(path.as_ref())
}

/// Those weights whose name begins with `prefix`, without it: `"model."` for what a `LightningModule` keeps in `self.model`.
pub fn weights_under(prefix: &str, weights: HashMap<String, Tensor>) -> HashMap<String, Tensor> {
    let named = weights.into_iter().filter_map(|(name, value)| {
        let name = name.strip_prefix(prefix)?.to_string();
        Some((name, value))
    });
    named.collect()
}

impl Trainer {
    /// Creates a model with the weights of a safetensors file, or of a [`TrainingState`](crate::TrainingState), to be used: on the
    /// device, in the precision's dtype. Each weight is read as the model asks for it and rounded once, so that a model of
    /// `bf16-true` or `16-true` takes half the memory of the file of f32 that it came from.
    ///
    /// ```
    /// # fn main() -> trainer::Result<()> {
    /// # use trainer::doc_example::{Line, batches, folder};
    /// use trainer::{Trainer, TrainingModule};
    ///
    /// # let folder = folder("load_module");
    /// # std::fs::create_dir_all(&folder).unwrap();
    /// # let file = folder.join("model.safetensors");
    /// let fit = Trainer::builder().accelerator("cpu").max_steps(1).build()?.fit(&Line, &batches(1)?)?;
    /// fit.parameters.save(&file)?;
    ///
    /// let deployed = Trainer::builder().precision("bf16-true").accelerator("cpu").build()?;
    /// let (model, _) = deployed.load_module(&file, |vb| Line.build(vb))?;
    /// let predicted = deployed.predict(&Line, &model, &batches(1)?)?;
    /// # assert_eq!(predicted[0].dims(), [4, 1]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A file that cannot be read or is no safetensors file; those of `create`; a parameter that the file does not have or has in
    /// another shape, and a weight that no parameter took.
    pub fn load_module<T>(
        &self,
        path: impl AsRef<Path>,
        create: impl FnOnce(VarBuilder) -> Result<T>,
    ) -> Result<(T, Parameters)> {
        let saved = Initial::Saved(WeightFile::open(path.as_ref())?);
        let (module, parameters, weights) = self.create(&ParameterStore::new(self.seed(), saved), create)?;
        weights.iter().for_each(|notice| (self.settings.listener.0)(notice));
        Ok((module, parameters))
    }
}

/// Where the initial values come from that are not drawn.
pub(crate) enum Initial {
    Given(HashMap<String, Tensor>),
    Saved(WeightFile),
}

impl Initial {
    pub(crate) fn names(&self) -> Vec<&String> {
        match self {
            Self::Given(values) => values.keys().collect(),
            Self::Saved(file) => file.names().collect(),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Self::Given(values) => values.contains_key(name),
            Self::Saved(file) => file.has(name),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Result<Option<Tensor>> {
        match self {
            Self::Given(values) => Ok(values.get(name).cloned()),
            Self::Saved(file) => file.read(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_prefix_chooses_and_goes() {
        let one = |name: &str| (name.to_string(), Tensor::new(1f32, &Device::Cpu).unwrap());
        let weights = weights_under("model.", [one("model.a.weight"), one("loss.weight")].into());
        assert_eq!(weights.into_keys().collect::<Vec<_>>(), ["a.weight"]);
    }
}
