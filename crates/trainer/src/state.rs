//! All of a run's state as one value: what another fit goes on from, to the bit.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use grad_scaler::StateDict;
use safetensors::SafeTensors;
use safetensors::tensor::serialize_to_file;

use crate::parameters::replace_file;
use crate::{Error, Result};

/// The state of a run after one of its steps, on the CPU.
///
/// [`Fit::state`](crate::Fit::state) and [`Step::state`](crate::Step::state) give one, and
/// [`TrainerBuilder::resume`](crate::TrainerBuilder::resume) takes it. A run that is resumed equals one that was never
/// interrupted to the bit, if it is given the data that follow: its dropout and stochastic rounding go on from `step`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TrainingState {
    /// The batches that were trained on.
    pub step: usize,
    /// Parameters and buffers by name, in the dtypes that the model stores them in.
    pub parameters: HashMap<String, Tensor>,
    /// [`Optimizer::state_dict`](optim::Optimizer::state_dict).
    pub optimizer: HashMap<String, Tensor>,
    /// [`GradScaler::state_dict`](grad_scaler::GradScaler::state_dict); empty at the precisions that do not scale the loss.
    pub scaler: StateDict,
}

const STEP: &str = "step";
const SCALER: &str = "scaler";
const PARAMETER: &str = "parameter.";
const OPTIMIZER: &str = "optimizer.";

impl TrainingState {
    /// Writes the state to a safetensors file. The file appears whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let scaler = serde_json::to_string(&self.scaler).map_err(|e| Error::Other(e.into()))?;
        let about = HashMap::from([(STEP.to_string(), self.step.to_string()), (SCALER.to_string(), scaler)]);
        let parameters = self.parameters.iter().map(|(name, tensor)| (format!("{PARAMETER}{name}"), tensor));
        let optimizer = self.optimizer.iter().map(|(name, tensor)| (format!("{OPTIMIZER}{name}"), tensor));
        replace_file(path.as_ref(), |unfinished| {
            serialize_to_file(parameters.chain(optimizer), Some(about), unfinished)
                .map_err(|e| Error::Other(e.into()))
        })
    }

    /// Reads a state that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// When the file cannot be read, or was written by something else.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let foreign = |what: &str| Error::NotAState { path: path.to_path_buf(), what: what.to_string() };
        let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| foreign(&e.to_string()))?;
        let about = header.metadata().clone().unwrap_or_default();
        let field = |name: &str| about.get(name).ok_or_else(|| foreign(&format!("it has no field '{name}'")));
        let step = field(STEP)?.parse().map_err(|_| foreign("its field 'step' is no number"))?;
        let scaler =
            serde_json::from_str(field(SCALER)?).map_err(|_| foreign("its field 'scaler' is no state"))?;
        let mut state = Self { step, scaler, ..Self::default() };
        for (name, tensor) in candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)? {
            if let Some(name) = name.strip_prefix(PARAMETER) {
                state.parameters.insert(name.to_string(), tensor);
            } else if let Some(name) = name.strip_prefix(OPTIMIZER) {
                state.optimizer.insert(name.to_string(), tensor);
            } else {
                return Err(foreign(&format!(
                    "its tensor '{name}' is neither a parameter nor the optimizer's"
                )));
            }
        }
        Ok(state)
    }
}
