//! What a user writes: a model, its loss, and how it is optimized.

use candle_core::Tensor;
use candle_nn::VarBuilder;
use optim::{Optimizer, Schedule};

use crate::{Batch, Parameters, Result};

/// A model and how it is trained. Nothing in it names a precision.
pub trait TrainingModule {
    /// What one step trains on.
    type Batch: Batch;

    /// Creates the model's parameters from `vb`, which gives them the precision's dtype on the trainer's device.
    ///
    /// # Errors
    /// Whatever stops the model from being created.
    fn configure_model(&mut self, vb: VarBuilder) -> Result<()>;

    /// The loss of one batch: one number, to be made smaller.
    ///
    /// The batch is on the trainer's device, and its floats have the parameters' dtype. At a `-mixed` precision the step
    /// runs inside an autocast region.
    ///
    /// # Errors
    /// Whatever stops the loss from being computed, which ends the fit. [`Error::NoLoss`](crate::Error::NoLoss) does not:
    /// it says that this batch has no loss, and no step is taken.
    fn training_step(&self, batch: &Self::Batch) -> Result<Tensor>;

    /// The loss of one batch in [`Trainer::evaluate`](crate::Trainer::evaluate), outside of training. By default that of
    /// [`training_step`](Self::training_step), in which [`autocast::mode`] tells layers that they are used.
    ///
    /// # Errors
    /// As [`training_step`](Self::training_step).
    fn validation_step(&self, batch: &Self::Batch) -> Result<Tensor> {
        self.training_step(batch)
    }

    /// The optimizer of the parameters that [`is_trained`](Self::is_trained) admits.
    ///
    /// # Errors
    /// An optimizer's settings that are out of range.
    fn configure_optimizers(&self, parameters: &Parameters) -> Result<Optimization>;

    /// Whether the optimizer changes the parameter called `name`, which must then have a gradient at the first step. A
    /// BatchNorm's running statistics are not trained.
    fn is_trained(&self, name: &str) -> bool {
        !name.ends_with("running_mean") && !name.ends_with("running_var")
    }
}

/// How the parameters are optimized: by which optimizer, and at which learning rate in each step.
pub struct Optimization {
    pub(crate) optimizer: Box<dyn Optimizer + Send + Sync>,
    pub(crate) schedule: Option<Schedule>,
}

impl Optimization {
    /// An optimizer at its own, constant learning rate.
    #[must_use]
    pub fn new(optimizer: impl Optimizer + Send + Sync + 'static) -> Self {
        Self { optimizer: Box::new(optimizer), schedule: None }
    }

    /// Takes the learning rate of every step from `schedule`, which advances on applied steps only.
    #[must_use]
    pub fn with_schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = Some(schedule);
        self
    }
}
