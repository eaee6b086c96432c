//! Checkpoints: when they are written, which are kept, and under which names. Writing is in [`saver`].

mod saver;
mod top;

use std::path::{Path, PathBuf};

use crate::{Error, Result};

pub(crate) use saver::{Moment, Saver};

/// Which of two values of a metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Best {
    /// As of a loss.
    Lowest,
    /// As of an accuracy.
    Highest,
}

/// What is written while a fit runs, in one folder.
///
/// `last.safetensors` is written after each epoch and each validation, at the end of a fit, and as often as
/// [`every_n_steps`](Self::every_n_steps) says. Files appear whole or not at all: whenever the process ends, the last one is
/// there. Training goes on while they are written, from a copy of the state; an error of writing ends the fit at its next step.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches, folder};
/// use trainer::{Best, ModelCheckpoint, Trainer};
///
/// # let folder = folder("checkpoint");
/// let checkpoint = ModelCheckpoint::new(&folder).every_n_steps(2).save_top_k(1, "val_loss", Best::Lowest);
/// let trainer = Trainer::builder().accelerator("cpu").max_epochs(2).checkpoint(checkpoint);
/// // Where there is none yet, this begins anew.
/// let trainer = trainer.resume_latest(&folder)?.build()?;
/// trainer.fit_validated(&Line, &batches(3)?, &batches(1)?)?;
/// assert!(folder.join("last.safetensors").exists());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ModelCheckpoint {
    folder: PathBuf,
    every_n_steps: Option<usize>,
    top: Option<Top>,
    last: Last,
}

#[derive(Clone, Debug)]
struct Top {
    count: usize,
    monitor: String,
    best: Best,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Written,
    LeftOut,
}

impl ModelCheckpoint {
    /// Checkpoints in `folder`, which is made if it is not there.
    pub fn new(folder: impl AsRef<Path>) -> Self {
        Self { folder: folder.as_ref().to_path_buf(), every_n_steps: None, top: None, last: Last::Written }
    }

    /// Writes after every `n`-th step, too.
    pub fn every_n_steps(mut self, n: usize) -> Self {
        self.every_n_steps = Some(n);
        self
    }

    /// Keeps the `count` best by a metric of validation, such as `"val_loss"`, each in a file that is named after epoch, step and
    /// metric.
    pub fn save_top_k(mut self, count: usize, monitor: impl Into<String>, best: Best) -> Self {
        self.top = Some(Top { count, monitor: monitor.into(), best });
        self
    }

    /// Leaves `last.safetensors` out: only the best are written.
    pub fn without_last(mut self) -> Self {
        self.last = Last::LeftOut;
        self
    }

    /// # Errors
    /// A setting that is out of range.
    pub(crate) fn check(&self) -> Result<()> {
        if self.every_n_steps == Some(0) {
            return Err(Error::Setting {
                setting: "every_n_steps",
                got: "0".to_string(),
                expected: "1 or more",
            });
        }
        if self.last == Last::LeftOut && self.top.as_ref().is_none_or(|top| top.count == 0) {
            return Err(Error::Setting {
                setting: "without_last",
                got: "a checkpoint that writes nothing".to_string(),
                expected: "ask for the best with save_top_k, or leave the checkpoint out",
            });
        }
        Ok(())
    }
}
