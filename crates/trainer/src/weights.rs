//! Weights by name, from a safetensors file that PyTorch, Lightning, candle or this crate wrote.

use std::collections::HashMap;
use std::path::Path;

use candle_core::Tensor;

use crate::Result;
use crate::state::tensors;

/// Reads the tensors of a safetensors file, for [`TrainerBuilder::initial_values`](crate::TrainerBuilder::initial_values). Of a
/// [`TrainingState`](crate::TrainingState) these are the parameters.
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
