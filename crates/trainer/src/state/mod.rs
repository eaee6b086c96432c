//! All of a run's state as one value: what another fit goes on from, to the bit. How it lies in a file is in [`file`], how a file
//! that may be anything is read in [`read`].

mod file;
mod read;
mod weight_file;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::Tensor;
use grad_scaler::StateDict;
use precision_types::Precision;

use crate::atomic::replace_file;
use crate::{Position, Result};

pub(crate) use read::tensors;
pub(crate) use weight_file::WeightFile;

/// The state of a run, on the CPU.
///
/// [`Fit::state`](crate::Fit::state) and [`Step::state`](crate::Step::state) give one, a
/// [`ModelCheckpoint`](crate::ModelCheckpoint) writes them, and [`TrainerBuilder::resume`](crate::TrainerBuilder::resume) takes
/// one. A run that is resumed equals one that was never interrupted to the bit: dropout and stochastic rounding follow `seed`
/// and `batches`.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches, folder};
/// use trainer::{Trainer, TrainingState};
///
/// let data = batches(3)?;
/// let trainer = |steps| Trainer::builder().accelerator("cpu").seed(7).max_steps(steps);
/// let straight = trainer(8).build()?.fit(&Line, &data)?;
/// let half = trainer(4).build()?.fit(&Line, &data)?;
/// # let folder = folder("state");
/// # std::fs::create_dir_all(&folder).unwrap();
/// half.state()?.save(folder.join("half.safetensors"))?;
/// let state = TrainingState::load(folder.join("half.safetensors"))?;
/// let rest = trainer(8).resume(state).build()?.fit(&Line, &data)?;
/// assert_eq!(rest.losses, straight.losses[4..]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TrainingState {
    /// Where the run is.
    pub position: Position,
    /// Batches of all epochs that were trained on.
    pub batches: usize,
    /// The precision that it was trained at.
    pub precision: Precision,
    /// The seed that everything random follows.
    pub seed: u64,
    /// Parameters and buffers by name, in the dtypes that the model stores them in.
    pub parameters: HashMap<String, Tensor>,
    /// [`Optimizer::state_dict`](optim::Optimizer::state_dict) of each optimizer, by its name.
    pub optimizers: BTreeMap<String, HashMap<String, Tensor>>,
    /// [`GradScaler::state_dict`](grad_scaler::GradScaler::state_dict); empty at the precisions that do not scale the loss.
    pub scaler: StateDict,
    /// What callbacks remember, by their names.
    pub callbacks: serde_json::Map<String, serde_json::Value>,
    /// What has come for a step that is not complete; empty between steps.
    pub accumulated: Accumulated,
}

/// The batches of a step that is not complete.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Accumulated {
    /// The loss of each batch, and its samples.
    pub losses: Vec<(f64, usize)>,
    /// Batches, those without a loss included.
    pub batches: usize,
    /// The sums of gradients, under the loss scale, by optimizer and parameter.
    pub gradients: BTreeMap<String, HashMap<String, Tensor>>,
    /// What the batches want to write to buffers, by the buffers' names.
    pub buffers: HashMap<String, Tensor>,
}

impl TrainingState {
    /// Writes the state to a safetensors file. The file appears whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        replace_file(path.as_ref(), &file::bytes(self)?)
    }

    /// Reads a state that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`Error::NotAState`](crate::Error::NotAState) for a file that is damaged or was written by something else, naming what
    /// is wrong with it; [`Error::Io`](crate::Error::Io) for one that cannot be read.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        read::state(path.as_ref())
    }

    /// Reads the state of the most steps among the safetensors files of a folder, where a
    /// [`ModelCheckpoint`](crate::ModelCheckpoint) writes them; `None` where there is none yet. Files of other tensors are left
    /// alone.
    ///
    /// # Errors
    /// As [`load`](Self::load), for any of the files.
    pub fn latest(folder: impl AsRef<Path>) -> Result<Option<Self>> {
        read::latest(folder.as_ref())
    }
}
