//! A stack of square layers with `relu` between them, for benchmarks of products.

use autocast::nn::Linear;
use autocast::ops;
use candle_core::{Module, Tensor};
use candle_nn::VarBuilder;

use super::Initial;

/// The size of a stack.
#[derive(Clone, Copy, Debug)]
pub struct MlpConfig {
    /// Inputs and outputs of each layer.
    pub width: usize,
    /// Layers.
    pub layers: usize,
}

/// Square layers with `relu` between them.
pub struct Mlp(Vec<Linear>);

impl Mlp {
    /// Creates the parameters in the builder's dtype, drawn as PyTorch does.
    ///
    /// # Errors
    /// What `vb` reports.
    pub fn new(config: MlpConfig, vb: VarBuilder) -> candle_core::Result<Self> {
        let MlpConfig { width, layers } = config;
        let layer = |i: usize| Initial::Torch.linear(width, width, vb.pp(i));
        Ok(Self((0..layers).map(layer).collect::<Result<_, _>>()?))
    }

    /// Rows of `width` numbers to as many.
    ///
    /// # Errors
    /// Rows of another width.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let mut x = x.clone();
        for (i, layer) in self.0.iter().enumerate() {
            x = layer.forward(&x)?;
            if i + 1 < self.0.len() {
                x = ops::relu(&x)?;
            }
        }
        Ok(x)
    }
}
