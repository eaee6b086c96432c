//! What a user writes: a model, its loss, and how it is optimized.

use candle_core::Tensor;
use candle_nn::VarBuilder;
use precision_types::Precision;

use crate::{Batch, Error, Optimization, Parameters, Position, Result, StepOutput};

/// A model and how it is trained. Nothing in it names a precision.
///
/// Batches are on the trainer's device, and their floats have the parameters' dtype. At a `-mixed` precision every step runs
/// inside an autocast region.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// use trainer::autocast::{nn, ops};
/// use trainer::candle_core::{Module, Tensor};
/// use trainer::candle_nn::VarBuilder;
/// use trainer::optim::{AdamW, AdamWConfig};
/// use trainer::{Optimization, Parameters, Result, StepContext, StepOutput, Trainer, TrainingModule};
///
/// struct Layers {
///     up: nn::Linear,
///     dropout: nn::Dropout,
///     down: nn::Linear,
/// }
///
/// impl Layers {
///     fn forward(&self, x: &Tensor) -> Result<Tensor> {
///         let hidden = ops::relu(&self.up.forward(x)?)?;
///         // Drops in training alone.
///         Ok(self.down.forward(&self.dropout.forward_by_mode(&hidden)?)?)
///     }
/// }
///
/// struct Regression {
///     width: usize,
/// }
///
/// impl TrainingModule for Regression {
///     type Model = Layers;
///     type Batch = (Tensor, Tensor);
///
///     fn build(&self, vb: VarBuilder) -> Result<Layers> {
///         Ok(Layers {
///             up: nn::linear(2, self.width, vb.pp("up"))?,
///             dropout: nn::Dropout::new(0.1),
///             down: nn::linear(self.width, 1, vb.pp("down"))?,
///         })
///     }
///
///     fn training_step(&self, net: &Layers, (x, y): &Self::Batch, _: &StepContext) -> Result<StepOutput> {
///         Ok(ops::mse_loss(&net.forward(x)?, y, ops::Reduction::Mean)?.into())
///     }
///
///     fn predict_step(&self, net: &Layers, (x, _): &Self::Batch) -> Result<Tensor> {
///         net.forward(x)
///     }
///
///     fn configure_optimizers(&self, parameters: &Parameters) -> Result<Optimization> {
///         let adamw = AdamW::new(parameters.to_named(), AdamWConfig { lr: 1e-2, ..Default::default() })?;
///         Ok(Optimization::new(adamw.no_decay(|name| name.ends_with("bias"))))
///     }
/// }
///
/// # let batches = trainer::doc_example::batches(4)?;
/// let trainer = Trainer::builder().precision("bf16-mixed").accelerator("cpu").max_epochs(10).build()?;
/// let fit = trainer.fit(&Regression { width: 8 }, &batches)?;
/// assert!(fit.losses[39] < fit.losses[0]);
/// # Ok(())
/// # }
/// ```
pub trait TrainingModule {
    /// What is trained: layers, which hold the parameters that [`build`](Self::build) took from its `VarBuilder`.
    type Model;

    /// What one step trains on.
    type Batch: Batch;

    /// Makes the model. `vb` gives its parameters the precision's dtype on the trainer's device.
    ///
    /// # Errors
    /// Whatever stops the model from being made.
    fn build(&self, vb: VarBuilder) -> Result<Self::Model>;

    /// Makes the model ready to be used: what the trainer calls in place of [`build`](Self::build), which it does by default.
    /// A module that has something to do before or after, with the same `vb` and inside the precision's region, writes this
    /// one.
    ///
    /// # Errors
    /// Those of [`build`](Self::build).
    fn configure_model(&self, vb: VarBuilder) -> Result<Self::Model> {
        self.build(vb)
    }

    /// The loss of one batch: one number, to be made smaller. A tensor is a [`StepOutput`] by `into()`; metrics may come beside
    /// it.
    ///
    /// # Errors
    /// Whatever stops the loss from being computed, which ends the fit. [`Error::NoLoss`](crate::Error::NoLoss) does not:
    /// it says that this batch has no loss, and no step is taken.
    fn training_step(
        &self,
        model: &Self::Model,
        batch: &Self::Batch,
        context: &StepContext,
    ) -> Result<StepOutput>;

    /// The loss and metrics of one batch of a validation, outside of training. By default those of
    /// [`training_step`](Self::training_step), in which [`autocast::mode`] tells layers that they are used.
    ///
    /// # Errors
    /// As [`training_step`](Self::training_step).
    fn validation_step(
        &self,
        model: &Self::Model,
        batch: &Self::Batch,
        context: &StepContext,
    ) -> Result<StepOutput> {
        self.training_step(model, batch, context)
    }

    /// The loss and metrics of one batch of a test. By default those of [`validation_step`](Self::validation_step).
    ///
    /// # Errors
    /// As [`training_step`](Self::training_step).
    fn test_step(
        &self,
        model: &Self::Model,
        batch: &Self::Batch,
        context: &StepContext,
    ) -> Result<StepOutput> {
        self.validation_step(model, batch, context)
    }

    /// What the model says to one batch, for [`Trainer::predict`](crate::Trainer::predict). There is no default: what a model
    /// predicts is not known from its loss.
    ///
    /// # Errors
    /// Whatever stops the prediction; [`Error::NoPredictStep`] where the module has none.
    fn predict_step(&self, _model: &Self::Model, _batch: &Self::Batch) -> Result<Tensor> {
        Err(Error::NoPredictStep)
    }

    /// The optimizers of the parameters that [`is_trained`](Self::is_trained) admits, each with its schedule.
    ///
    /// # Errors
    /// An optimizer's settings that are out of range.
    fn configure_optimizers(&self, parameters: &Parameters) -> Result<Optimization>;

    /// Whether an optimizer changes the parameter called `name`, which must then have a gradient at the first step. A
    /// BatchNorm's running statistics are not trained.
    fn is_trained(&self, name: &str) -> bool {
        !name.ends_with("running_mean") && !name.ends_with("running_var")
    }
}

/// What a step is told of where it is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct StepContext<'a> {
    /// The name of the optimizer that the loss is for; empty outside of training.
    pub optimizer: &'a str,
    /// Where the fit is: steps that were taken, complete epochs, and batches of this epoch before this one. In a validation,
    /// test or prediction `batch` counts its batches, and the others are zero.
    pub position: Position,
    /// The precision in use.
    pub precision: Precision,
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl TrainingModule for Nothing {
        type Model = ();
        type Batch = ();
        fn build(&self, _: VarBuilder) -> Result<()> {
            Ok(())
        }
        fn training_step(&self, (): &(), (): &(), _: &StepContext) -> Result<StepOutput> {
            Err(Error::NoLoss)
        }
        fn configure_optimizers(&self, _: &Parameters) -> Result<Optimization> {
            Err(Error::NoParameters)
        }
    }

    #[test]
    fn what_is_not_written_says_so() {
        assert!(matches!(Nothing.predict_step(&(), &()), Err(Error::NoPredictStep)));
        assert!(Nothing.is_trained("norm.weight") && !Nothing.is_trained("norm.running_var"));
    }
}
