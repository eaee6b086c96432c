//! What a callback sees of a step.

use std::cell::RefCell;

use grad_scaler::{Diagnostics, StepOutcome};

use crate::followers::Followers;
use crate::losses::weighted;
use crate::run::{Member, Progress, Taken};
use crate::trainer::read;
use crate::{Metrics, Parameters, Position, Result, TrainingState};

/// A step that was just taken.
pub struct Step<'a> {
    pub(crate) taken: &'a Taken,
    pub(crate) progress: &'a Progress,
    pub(crate) is_last: bool,
    pub(crate) logged: RefCell<Vec<(String, f64)>>,
}

impl<'a> Step<'a> {
    pub(crate) fn new(taken: &'a Taken, progress: &'a Progress, is_last: bool) -> Self {
        Self { taken, progress, is_last, logged: RefCell::default() }
    }

    /// The number of steps that were taken or skipped, this one and those before a resume included. A batch without a loss
    /// counts, unless it is accumulated with others.
    #[must_use]
    pub fn number(&self) -> usize {
        self.progress.position.step
    }

    /// Where the fit is after the step.
    #[must_use]
    pub fn position(&self) -> Position {
        self.progress.position
    }

    /// Whether no step follows, as far as that is known: a callback may end the fit at any step.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.is_last
    }

    /// The loss before the step's update: the mean over its batches. Of several optimizers, that of the first whose turn it was.
    /// Reading it waits for the device; not reading it does not.
    ///
    /// # Errors
    /// When the device cannot be read.
    pub fn loss(&self) -> Result<f64> {
        let losses =
            self.taken.members.iter().map(|member| read(&member.loss)).collect::<Result<Vec<_>>>()?;
        Ok(losses.iter().sum::<f64>() / losses.len() as f64)
    }

    /// The metrics that the step gave beside its loss, averaged over its samples. Reading them waits for the device; not reading
    /// them does not.
    ///
    /// # Errors
    /// When the device cannot be read.
    pub fn metrics(&self) -> Result<Metrics> {
        let members = &self.taken.members;
        let mut names: Vec<&String> = Vec::new();
        for (name, _) in members.iter().flat_map(|member| &member.metrics) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.into_iter().map(|name| Ok((name.clone(), mean_of(name, members)?))).collect()
    }

    /// The samples of the step's batches.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.taken.members.iter().map(|member| member.samples).sum()
    }

    /// Whether the step was applied. On a GPU it is still pending, except with
    /// [`OnNonFinite::Apply`](crate::OnNonFinite::Apply) at a precision that does not scale its loss. Of several optimizers, that
    /// of the first whose turn it was.
    #[must_use]
    pub fn outcome(&self) -> &StepOutcome {
        &self.taken.outcome
    }

    /// The learning rate that the first optimizer's step was taken with. Where a schedule follows what a GPU decides, reading it
    /// waits for the device; not reading it does not.
    #[must_use]
    pub fn learning_rate(&self) -> f64 {
        self.progress.update.learning_rate()
    }

    /// The name of each optimizer, and the learning rate of its last step. Waits as [`learning_rate`](Self::learning_rate) does.
    pub fn learning_rates(&self) -> impl Iterator<Item = (&str, f64)> {
        self.progress.update.optimizers.iter().map(|stepping| {
            (stepping.name.as_str(), stepping.optimizer.last_learning_rate().unwrap_or(f64::NAN))
        })
    }

    /// The norm of the first optimizer's unscaled gradients before clipping, also where the step was skipped; `None` where
    /// nothing took it ([`OnNonFinite::Apply`](crate::OnNonFinite::Apply) without clipping by norm). Reading it waits for the
    /// device; not reading it does not.
    #[must_use]
    pub fn grad_norm(&self) -> Option<f64> {
        self.progress.update.grad_norm()
    }

    /// The loss scale after the step; 1 at the precisions that need none. Reading it waits for the device; not reading it
    /// does not.
    #[must_use]
    pub fn loss_scale(&self) -> f32 {
        self.progress.update.loss_scale()
    }

    /// Steps that were skipped so far, as far as the host has heard: reading it does not wait.
    #[must_use]
    pub fn skipped_steps(&self) -> usize {
        self.progress.update.skipped_steps()
    }

    /// What the loss scaler remembers, where the builder's `diagnostics` asked for it and the precision scales its loss.
    #[must_use]
    pub fn diagnostics(&self) -> Option<&Diagnostics> {
        self.progress.update.diagnostics()
    }

    /// The parameters as the step left them.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.progress.parameters
    }

    /// Gives the loggers a number of this step, for a callback that measures something.
    pub fn log(&self, name: impl Into<String>, value: f64) {
        self.logged.borrow_mut().push((name.into(), value));
    }

    /// All that another fit needs to go on after this step, but what callbacks remember, which a
    /// [`ModelCheckpoint`](crate::ModelCheckpoint) has as well. Waits for the device.
    ///
    /// # Errors
    /// When the device cannot be read.
    pub fn state(&self) -> Result<TrainingState> {
        self.progress.state(Followers::default().states())
    }
}

fn mean_of(name: &str, members: &[Member]) -> Result<f64> {
    let (mut values, mut samples) = (Vec::new(), Vec::new());
    for member in members {
        for (_, value) in member.metrics.iter().filter(|(metric, _)| metric == name) {
            values.push(read(value)?);
            samples.push(member.samples as f64);
        }
    }
    Ok(weighted(&values, &samples))
}
