//! Weights by name, from a safetensors file that PyTorch, Lightning, candle or this crate wrote.

use std::collections::HashMap;
use std::path::Path;

use candle_core::Tensor;

use crate::Result;
use crate::state::tensors;

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
