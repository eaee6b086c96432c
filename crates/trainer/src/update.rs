//! From a loss to changed parameters: scale, backward, unscale, step, and the scale's own update.

use autocast::BufferUpdate;
use candle_core::Tensor;
use candle_core::backprop::GradStore;
use grad_scaler::{Diagnostics, GradScaler, StateDict, StepOutcome, Strictness};
use optim::Optimizer;

use crate::builder::{Settings, default_loss_scaling};
use crate::trainer::read;
use crate::{Error, Notice, OnNonFinite, Optimization, Parameters, Result, Trainer, TrainingState};

/// The part of training that changes state.
pub(crate) struct Update {
    pub(crate) optimizer: Box<dyn Optimizer + Send + Sync>,
    scaler: GradScaler,
    /// The parameters whose gradients the first step has yet to be checked for.
    unchecked: Option<Parameters>,
    on_non_finite: OnNonFinite,
    /// Whether an overflow is how the loss scale is found.
    scales: bool,
}

impl Update {
    pub(crate) fn new(trainer: &Trainer, optimization: Optimization, trained: Parameters) -> Result<Self> {
        let scales = trainer.precision.needs_loss_scaling();
        let Settings { on_non_finite, loss_scaling, diagnostics, .. } = trainer.settings;
        let loss_scaling = loss_scaling.unwrap_or_else(|| default_loss_scaling(trainer.precision));
        let scaler = match (scales, on_non_finite) {
            (true, _) => GradScaler::new(loss_scaling, &trainer.device)?,
            (false, OnNonFinite::Skip | OnNonFinite::Stop) => GradScaler::skipping(&trainer.device)?,
            (false, OnNonFinite::Apply) => GradScaler::disabled(),
        };
        let scaler = match diagnostics.filter(|_| scales) {
            Some(config) => scaler.with_diagnostics(config)?,
            None => scaler,
        };
        let Optimization { mut optimizer, schedule } = optimization;
        optimizer.set_seed(trainer.seed());
        if schedule.is_some() {
            optimizer.set_schedule(schedule);
        }
        Ok(Self { optimizer, scaler, unchecked: Some(trained), on_non_finite, scales })
    }

    /// Takes one step. The loss is taken by value, so that its graph is gone when this returns. Buffers are written if the
    /// step is taken.
    pub(crate) fn step(&mut self, loss: Tensor, buffers: Vec<BufferUpdate>) -> Result<StepOutcome> {
        let value = loss.detach();
        let scaled = self.scaler.scale(&loss)?;
        drop(loss);
        let grads = autocast::narrow_gradients(scaled)?;
        if let Some(trained) = &self.unchecked {
            check_gradients(trained, &grads)?;
            self.unchecked = None;
        }
        let before = self.watch()?;
        let outcome = self.scaler.step(self.optimizer.as_mut(), &grads)?;
        self.scaler.commit(&outcome, buffers)?;
        self.scaler.update()?;
        autocast::parameters_changed();
        match before {
            Some(before) => self.stop_if_skipped(before, outcome, &value),
            None => Ok(outcome),
        }
    }

    /// What [`OnNonFinite::Stop`] has to know before a step: how many were skipped, and the scale.
    fn watch(&self) -> Result<Option<(u64, f32)>> {
        Ok(match self.on_non_finite {
            OnNonFinite::Stop => Some((self.scaler.wait_for_steps()?.skipped, self.scaler.get_scale()?)),
            OnNonFinite::Skip | OnNonFinite::Apply => None,
        })
    }

    fn stop_if_skipped(
        &self,
        (skipped, scale): (u64, f32),
        outcome: StepOutcome,
        loss: &Tensor,
    ) -> Result<StepOutcome> {
        if self.scaler.wait_for_steps()?.skipped == skipped {
            return Ok(outcome);
        }
        let loss = read(loss)?;
        if self.scales && loss.is_finite() && self.scaler.get_scale()? < scale {
            return Ok(outcome);
        }
        let parameters = match outcome {
            StepOutcome::Skipped { overflowed } => overflowed,
            _ => Vec::new(),
        };
        Err(Error::NonFinite { loss, parameters })
    }

    /// The learning rate that the last step was taken with. Waits for the device where a schedule follows what it decided.
    pub(crate) fn learning_rate(&self) -> f64 {
        self.optimizer.last_learning_rate().unwrap_or(f64::NAN)
    }

    /// The norm of the last step's unscaled gradients. Waits for the device.
    pub(crate) fn grad_norm(&self) -> Option<f64> {
        self.optimizer.last_grad_norm().ok().flatten()
    }

    pub(crate) fn loss_scale(&self) -> f32 {
        self.scaler.get_scale().unwrap_or(f32::NAN)
    }

    pub(crate) fn diagnostics(&self) -> Option<&Diagnostics> {
        self.scaler.diagnostics()
    }

    /// Whether the optimizer draws from the seed.
    pub(crate) fn draws(&self) -> bool {
        self.optimizer.draws()
    }

    pub(crate) fn skipped_steps(&self) -> usize {
        self.scaler.steps().map_or(0, |steps| steps.skipped as usize)
    }

    /// Takes the optimizer's and the scaler's state; gives what had to be converted, where precisions or settings differ.
    pub(crate) fn resume(&mut self, state: &TrainingState) -> Result<Option<Notice>> {
        let loaded = self.optimizer.load_state_dict_with(&state.optimizer, Strictness::Strict)?;
        let mut differences = Vec::new();
        for (what, entries) in
            [("converted", loaded.converted), ("made", loaded.missing), ("left out", loaded.unused)]
        {
            if !entries.is_empty() {
                differences.push(format!("{what} {}", entries.join(", ")));
            }
        }
        match (self.scales, state.scaler.is_empty()) {
            (true, false) => self.scaler.load_state_dict(&state.scaler)?,
            (false, true) => {}
            (true, true) => differences.push("the state has no loss scale: it begins anew".to_string()),
            (false, false) => {
                differences.push("this precision has no use for the state's loss scale".to_string())
            }
        }
        Ok((!differences.is_empty()).then_some(Notice::Resumed { differences }))
    }

    pub(crate) fn scaler_state(&self) -> Result<StateDict> {
        Ok(if self.scales { self.scaler.state_dict()? } else { StateDict::default() })
    }
}

fn check_gradients(trained: &Parameters, grads: &GradStore) -> Result<()> {
    let names = trained.iter().filter(|(_, var)| grads.get(var).is_none()).map(|(name, _)| name.to_string());
    match names.collect::<Vec<_>>() {
        names if names.is_empty() => Ok(()),
        names => Err(Error::MissingGradient { names }),
    }
}
