//! A fit in progress: what it has to go on from, and what it has seen. How it begins is in [`start`], a batch and its step in
//! [`batch`], forward and backward in [`pass`] and where that is recorded in [`recorded`] and [`forms`], its end in [`finish`].

mod batch;
mod finish;
pub(crate) mod forms;
mod pass;
pub(crate) mod recorded;
mod resume;
mod start;

use std::collections::{BTreeMap, HashMap};

use autocast::BufferUpdate;
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use grad_scaler::StepOutcome;
use serde_json::{Map, Value};

use crate::losses::{Averages, Losses};
use crate::state::Accumulated;
use crate::update::{Stepping, Update};
use crate::{Notice, Parameters, Position, Precision, Result, Trainer, TrainingState};

use forms::Recordings;
use recorded::Recorded;

pub(crate) use batch::Group;

/// What a run has to go on from.
pub(crate) struct Progress {
    pub(crate) parameters: Parameters,
    pub(crate) update: Update,
    pub(crate) position: Position,
    /// Batches of all epochs, those before a resume included: what random draws follow.
    pub(crate) batches: usize,
    pub(crate) precision: Precision,
    pub(crate) seed: u64,
    pub(crate) group: Members,
}

/// The batches of a step that is not complete.
#[derive(Default)]
pub(crate) struct Members {
    /// Those with a loss.
    pub(crate) losses: Vec<Member>,
    pub(crate) batches: usize,
    /// What their forward passes want to write.
    pub(crate) buffers: Vec<BufferUpdate>,
}

/// What a forward pass gave.
pub(crate) struct Member {
    pub(crate) loss: Tensor,
    pub(crate) metrics: Vec<(String, Tensor)>,
    pub(crate) samples: usize,
}

/// A step that was just taken.
pub(crate) struct Taken {
    pub(crate) members: Vec<Member>,
    /// Of the first optimizer that had its turn.
    pub(crate) outcome: StepOutcome,
}

/// A fit between its configuration and its end.
pub(crate) struct Run<'a> {
    pub(crate) trainer: &'a Trainer,
    pub(crate) progress: Progress,
    pub(crate) losses: Losses,
    /// The number of losses of each step, where steps are of several batches.
    sizes: Vec<usize>,
    /// Losses that the loggers have had.
    logged: usize,
    averages: Averages,
    /// Whether somebody takes the averages.
    pub(crate) collects: bool,
    /// Batches of a resumed state.
    batches_before: usize,
    /// Steps that this fit took or skipped.
    pub(crate) steps: usize,
    pub(crate) notices: Vec<Notice>,
    /// Whether any parameter's value came from the seed.
    drew_values: bool,
    /// Whether the first forward pass is still to come.
    is_new: bool,
    /// Whether it is known that not every loss is NaN.
    has_number: bool,
    /// Passes that are recorded, where they are to be.
    recordings: Option<Recordings<Recorded>>,
}

impl Run<'_> {
    /// The mean loss and metrics since they were last asked for. Waits for the device.
    pub(crate) fn numbers(&mut self) -> Result<Vec<(String, f64)>> {
        let losses = self.losses.read_all()?;
        let new = &losses[self.logged..];
        let mut numbers = vec![("epoch".to_string(), self.progress.position.epoch as f64)];
        if !new.is_empty() {
            numbers.push(("train_loss".to_string(), new.iter().sum::<f64>() / new.len() as f64));
        }
        self.logged = losses.len();
        numbers.extend(self.averages.take()?);
        Ok(numbers)
    }

    /// What a logger is told once.
    pub(crate) fn hyperparameters(&self) -> Vec<(String, String)> {
        let settings = &self.trainer.settings;
        let mut values = vec![
            ("precision", self.trainer.precision_name().to_string()),
            ("accelerator", self.trainer.accelerator.to_string()),
            ("seed", self.progress.seed.to_string()),
            ("accumulate_grad_batches", settings.steps.accumulate.to_string()),
            ("parameters", self.progress.parameters.element_count().to_string()),
        ];
        let given = [
            ("max_steps", settings.run.steps().map(|steps| steps.to_string())),
            ("max_epochs", settings.run.epochs().map(|epochs| epochs.to_string())),
            ("gradient_clip_val", settings.steps.clip_val.map(|limit| limit.to_string())),
        ];
        values.extend(given.into_iter().filter_map(|(name, value)| Some((name, value?))));
        let mut values: Vec<_> = values.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
        for stepping in &self.progress.update.optimizers {
            values.push((format!("lr/{}", stepping.name), stepping.optimizer.learning_rate().to_string()));
        }
        values
    }
}

impl Progress {
    /// A copy on the CPU. Waits for the device.
    pub(crate) fn state(&self, callbacks: Map<String, Value>) -> Result<TrainingState> {
        let mut optimizers = BTreeMap::new();
        for stepping in &self.update.optimizers {
            optimizers.insert(stepping.name.clone(), stepping.optimizer.state_dict()?);
        }
        Ok(TrainingState {
            position: self.position,
            batches: self.batches,
            precision: self.precision,
            seed: self.seed,
            parameters: self.parameters.values()?,
            optimizers,
            scaler: self.update.plugin.state_dict()?,
            callbacks,
            accumulated: self.accumulated()?,
        })
    }

    fn accumulated(&self) -> Result<Accumulated> {
        let mut accumulated = Accumulated { batches: self.group.batches, ..Accumulated::default() };
        for member in &self.group.losses {
            accumulated.losses.push((crate::trainer::read(&member.loss)?, member.samples));
        }
        for Stepping { name, grads, .. } in &self.update.optimizers {
            if let Some(grads) = grads {
                accumulated.gradients.insert(name.clone(), self.named(grads)?);
            }
        }
        for (buffer, value) in &self.group.buffers {
            let known = self.parameters.iter().find(|(_, var)| var.id() == buffer.id());
            if let Some((name, _)) = known {
                accumulated.buffers.insert(name.to_string(), on_cpu(value)?);
            }
        }
        Ok(accumulated)
    }

    fn named(&self, grads: &GradStore) -> Result<HashMap<String, Tensor>> {
        let present = self.parameters.iter().filter_map(|(name, var)| Some((name, grads.get(var)?)));
        present.map(|(name, grad)| Ok((name.to_string(), on_cpu(grad)?))).collect()
    }
}

/// A copy that later steps leave alone.
fn on_cpu(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.to_device(&Device::Cpu)?.copy()?)
}
