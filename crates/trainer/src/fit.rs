//! The training loop.

use candle_core::{DType, Tensor};
use candle_nn::VarBuilder;
use grad_scaler::{Diagnostics, StepOutcome};

use crate::parameters::ParameterStore;
use crate::trainer::read;
use crate::update::Update;
use crate::{Error, Parameters, Result, Trainer, TrainingModule};

/// What training gave.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Fit {
    /// The loss of every step, before the step's update.
    pub losses: Vec<f64>,
    /// Steps whose gradients were not finite and which therefore changed nothing.
    pub skipped_steps: usize,
    /// The trained parameters.
    pub parameters: Parameters,
}

/// A step that was just taken.
pub struct Step<'a> {
    number: usize,
    is_last: bool,
    loss: &'a Tensor,
    outcome: &'a StepOutcome,
    update: &'a Update,
}

impl Step<'_> {
    /// The step's number, from 1.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
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

    /// Whether the step was applied. On a GPU that scales the loss it is still pending.
    #[must_use]
    pub fn outcome(&self) -> &StepOutcome {
        self.outcome
    }

    /// The learning rate that the step was taken with.
    #[must_use]
    pub fn learning_rate(&self) -> f64 {
        self.update.learning_rate()
    }

    /// The loss scale after the step; 1 at the precisions that need none. Reading it waits for the device; not reading it
    /// does not.
    #[must_use]
    pub fn loss_scale(&self) -> f32 {
        self.update.loss_scale()
    }

    /// What the loss scaler remembers, where the builder's `diagnostics` asked for it and the precision scales its loss.
    #[must_use]
    pub fn diagnostics(&self) -> Option<&Diagnostics> {
        self.update.diagnostics()
    }
}

impl Trainer {
    /// Trains `module` on `data`, one batch a step, until `max_steps` or the data's end.
    ///
    /// The model is created anew: a second call starts from the seed again.
    ///
    /// # Errors
    /// Those of the module, and [`Error::MissingGradient`] when the first step leaves a parameter without a gradient.
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
        mut on_step: impl FnMut(&Step) -> Result<()>,
    ) -> Result<Fit> {
        let ((), parameters) = self.init_module(|vb| module.configure_model(vb))?;
        let trained = parameters.filter(|name| module.is_trained(name));
        let mut update = Update::new(self, module.configure_optimizers(&trained)?, trained)?;
        let mut losses = Vec::new();

        let mut data = data.into_iter().take(self.max_steps).peekable();
        while let Some(batch) = data.next() {
            let batch = self.prepare(batch)?;
            let loss = self.run(|| module.training_step(&batch))?;
            if loss.elem_count() != 1 {
                return Err(Error::LossShape { shape: loss.dims().to_vec() });
            }
            let loss_value = loss.detach();
            let outcome = update.step(loss)?;
            losses.push(loss_value.clone());
            on_step(&Step {
                number: losses.len(),
                is_last: data.peek().is_none(),
                loss: &loss_value,
                outcome: &outcome,
                update: &update,
            })?;
        }
        // Reading the losses waits for the device, so that every skipped step is known after it.
        let losses = losses.iter().map(read).collect::<Result<_>>()?;
        Ok(Fit { losses, skipped_steps: update.skipped_steps(), parameters })
    }

    /// Creates a model outside of training: on the device, in the precision's dtype (complex128 for complex parameters at
    /// 64-true), from the seed or the initial values.
    ///
    /// # Errors
    /// Those of `create`; a model without parameters; initial values that no parameter took.
    pub fn init_module<T>(&self, create: impl FnOnce(VarBuilder) -> Result<T>) -> Result<(T, Parameters)> {
        let store = ParameterStore::new(self.seed, self.initial_values.clone());
        let dtype: DType = self.precision.param_dtype().into();
        let module = create(store.builder(dtype, &self.device))?;
        let parameters = store.parameters();
        if parameters.is_empty() {
            return Err(Error::NoParameters);
        }
        match store.unused_initial_values() {
            names if names.is_empty() => Ok((module, parameters)),
            names => Err(Error::UnusedInitialValues { names }),
        }
    }
}
