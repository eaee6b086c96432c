//! Training: what it gives, what a callback sees, and the loop.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use candle_core::Tensor;
use candle_nn::VarBuilder;
use grad_scaler::{Diagnostics, StepOutcome};

use crate::run::{Progress, Run};
use crate::trainer::read;
use crate::{Error, Metrics, Notice, Parameters, Position, Result, Trainer, TrainingModule, TrainingState};

/// What training gave.
#[derive(Clone)]
#[non_exhaustive]
pub struct Fit {
    /// The loss of every step, before the step's update.
    pub losses: Vec<f64>,
    /// Steps whose gradients were not finite and which therefore changed nothing.
    pub skipped_steps: usize,
    /// The trained parameters.
    pub parameters: Parameters,
    /// What came up, such as a setting without an effect.
    pub notices: Vec<Notice>,
    pub(crate) progress: Arc<Progress>,
}

impl Fit {
    /// All that another fit needs to go on: parameters, the optimizer's and the loss scaler's state, the step.
    ///
    /// # Errors
    /// When the device cannot be read.
    pub fn state(&self) -> Result<TrainingState> {
        self.progress.state()
    }
}

impl fmt::Debug for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fit")
            .field("losses", &self.losses)
            .field("skipped_steps", &self.skipped_steps)
            .field("parameters", &self.parameters)
            .field("notices", &self.notices)
            .finish_non_exhaustive()
    }
}

/// A step that was just taken.
pub struct Step<'a> {
    number: usize,
    is_last: bool,
    loss: &'a Tensor,
    outcome: &'a StepOutcome,
    progress: &'a Progress,
    logged: RefCell<Vec<(String, f64)>>,
}

impl Step<'_> {
    /// The number of batches that were trained on, this one and those before a resume included.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// Where the fit is after the step.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { step: self.number, epoch: 0, batch: self.number }
    }

    /// The step's metrics, averaged over its samples.
    ///
    /// # Errors
    /// When the device cannot be read.
    pub fn metrics(&self) -> Result<Metrics> {
        Ok(Metrics::default())
    }

    /// The samples of the step's batches.
    #[must_use]
    pub fn samples(&self) -> usize {
        0
    }

    /// The steps that were skipped, as far as the host has heard.
    #[must_use]
    pub fn skipped_steps(&self) -> usize {
        self.progress.update.skipped_steps()
    }

    /// Gives the loggers a number of this step, for a callback that measures something.
    pub fn log(&self, name: impl Into<String>, value: f64) {
        self.logged.borrow_mut().push((name.into(), value));
    }

    /// Whether no step follows.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.is_last
    }

    /// The loss before the step's update. Reading it waits for the device; not reading it does not.
    ///
    /// # Errors
    /// When the device cannot be read.
    pub fn loss(&self) -> Result<f64> {
        read(self.loss)
    }

    /// Whether the step was applied. On a GPU it is still pending, except with
    /// [`OnNonFinite::Apply`](crate::OnNonFinite::Apply) at a precision that does not scale its loss.
    #[must_use]
    pub fn outcome(&self) -> &StepOutcome {
        self.outcome
    }

    /// The learning rate that the step was taken with. Where a schedule follows what a GPU decides, reading it waits for the
    /// device; not reading it does not.
    #[must_use]
    pub fn learning_rate(&self) -> f64 {
        self.progress.update.learning_rate()
    }

    /// The norm of the step's unscaled gradients before clipping, also where the step was skipped; `None` where nothing took
    /// it ([`OnNonFinite::Apply`](crate::OnNonFinite::Apply) without clipping by norm). Reading it waits for the device; not
    /// reading it does not.
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

    /// All that another fit needs to go on after this step. Waits for the device.
    ///
    /// # Errors
    /// When the device cannot be read.
    pub fn state(&self) -> Result<TrainingState> {
        self.progress.state()
    }
}

impl Trainer {
    /// Trains `module` on `data`, one batch a step, until `max_steps` or the data's end.
    ///
    /// The model is created anew: a second call starts from the seed, or the resumed state, again, and gives the same to the
    /// last bit.
    ///
    /// # Errors
    /// Those of the module, [`Error::MissingGradient`] when the first step leaves a parameter without a gradient, and
    /// [`Error::NoData`]. An error after the first step comes as [`Error::Stopped`], with what was trained before it.
    pub fn fit<M: TrainingModule>(
        &self,
        module: &mut M,
        data: impl IntoIterator<Item = M::Batch>,
    ) -> Result<Fit> {
        self.fit_with(module, data, |_| Ok(()))
    }

    /// [`fit`](Self::fit), calling `on_step` after every step. An error that it returns ends the training.
    ///
    /// # Errors
    /// Those of [`fit`](Self::fit) and of `on_step`.
    pub fn fit_with<M: TrainingModule>(
        &self,
        module: &mut M,
        data: impl IntoIterator<Item = M::Batch>,
        on_step: impl FnMut(&Step) -> Result<()>,
    ) -> Result<Fit> {
        self.try_fit_with(module, data.into_iter().map(Ok::<_, Error>), on_step)
    }

    /// [`fit_with`](Self::fit_with) on data that may fail, such as a file that is read batch by batch. The first error of
    /// the data ends the training.
    ///
    /// # Errors
    /// Those of [`fit_with`](Self::fit_with) and of `data`.
    pub fn try_fit_with<M: TrainingModule, E: Into<Error>>(
        &self,
        module: &mut M,
        data: impl IntoIterator<Item = std::result::Result<M::Batch, E>>,
        mut on_step: impl FnMut(&Step) -> Result<()>,
    ) -> Result<Fit> {
        let mut run = Run::start(self, module)?;
        let mut data = data.into_iter().take(run.left()).peekable();
        let mut train = || {
            while let Some(batch) = data.next() {
                let Some((loss, outcome)) = run.step(module, batch.map_err(Into::into)?)? else { continue };
                on_step(&Step {
                    number: run.progress.batches,
                    is_last: data.peek().is_none(),
                    loss: &loss,
                    outcome: &outcome,
                    progress: &run.progress,
                    logged: RefCell::default(),
                })?;
            }
            Ok(())
        };
        let end = train();
        run.finish(end)
    }

    /// Creates a model outside of training: on the device, in the precision's dtype (complex128 for complex parameters at
    /// 64-true), from the seed, the initial values or a resumed state.
    ///
    /// # Errors
    /// Those of `create`; a model without parameters; initial values that do not fit its parameters.
    pub fn init_module<T>(&self, create: impl FnOnce(VarBuilder) -> Result<T>) -> Result<(T, Parameters)> {
        let (module, parameters, weights) = self.create(&self.parameter_store(), create)?;
        weights.iter().for_each(|notice| (self.settings.listener.0)(notice));
        Ok((module, parameters))
    }
}
