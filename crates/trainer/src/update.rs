//! From a loss to changed parameters: scale, backward, unscale, step, and the scale's own update.

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use grad_scaler::{Diagnostics, GradScaler, StepOutcome};

use crate::{Error, Optimization, Parameters, Result, Trainer};

/// The part of training that changes state.
pub(crate) struct Update {
    optimization: Optimization,
    scaler: GradScaler,
    /// The parameters whose gradients the first step has yet to be checked for.
    unchecked: Option<Parameters>,
    learning_rate: f64,
}

impl Update {
    pub(crate) fn new(trainer: &Trainer, optimization: Optimization, trained: Parameters) -> Result<Self> {
        let scaler = match trainer.precision.needs_loss_scaling() {
            true => GradScaler::new(trainer.loss_scaling.clone(), &trainer.device)?,
            false => GradScaler::disabled(),
        };
        let scaler = match trainer.diagnostics {
            Some(config) => scaler.with_diagnostics(config),
            None => scaler,
        };
        let learning_rate = optimization.optimizer.learning_rate();
        Ok(Self { optimization, scaler, unchecked: Some(trained), learning_rate })
    }

    /// Takes one step. The loss is taken by value, so that its graph is gone when this returns.
    pub(crate) fn step(&mut self, loss: Tensor) -> Result<StepOutcome> {
        let scaled = self.scaler.scale(&loss)?;
        drop(loss);
        let grads = autocast::backward(scaled)?;
        if let Some(trained) = self.unchecked.take() {
            check_gradients(&trained, &grads)?;
        }
        let Optimization { optimizer, schedule } = &mut self.optimization;
        if let Some(schedule) = schedule {
            optimizer.set_learning_rate(schedule.lr(optimizer.applied_steps()))?;
        }
        self.learning_rate = optimizer.learning_rate();
        let outcome = self.scaler.step(optimizer.as_mut(), &grads)?;
        self.scaler.update()?;
        autocast::parameters_changed();
        Ok(outcome)
    }

    /// The learning rate that the last step was taken with.
    pub(crate) fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    pub(crate) fn loss_scale(&self) -> f32 {
        self.scaler.get_scale()
    }

    pub(crate) fn diagnostics(&self) -> Option<&Diagnostics> {
        self.scaler.diagnostics()
    }

    pub(crate) fn skipped_steps(&self) -> usize {
        self.scaler.steps().skipped as usize
    }
}

fn check_gradients(trained: &Parameters, grads: &GradStore) -> Result<()> {
    let names = trained.iter().filter(|(_, var)| grads.get(var).is_none()).map(|(name, _)| name.to_string());
    match names.collect::<Vec<_>>() {
        names if names.is_empty() => Ok(()),
        names => Err(Error::MissingGradient { names }),
    }
}
