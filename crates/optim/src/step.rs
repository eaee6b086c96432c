//! Taking a step, and what is told of it: the traits of `Fused`.

use crate::clip::clip_coef;
use crate::error::check_non_negative;
use crate::fused::LastStep;
use crate::gradients::gradients;
use crate::look::look;
use crate::rule::Rule;
use crate::{Clip, Fused, LoadReport, Optimizer, Result, Schedule, Strictness, cpu};
#[cfg(feature = "cuda")]
use backends::cuda::{DeviceScaler, PendingStep};
use backends::kernels::fused_step::GradTransform;
use candle_core::Tensor;
use candle_core::backprop::GradStore;
use grad_scaler::{OptimizerId, Parameter, ScaledOptimizer, StepOutcome, Unscaling};
use std::collections::HashMap;

impl<R: Rule> Fused<R> {
    fn apply(&mut self, grads: &GradStore, unscaling: &Unscaling) -> Result<()> {
        let grads = gradients(&self.parameters, grads)?;
        let inv_scale = unscaling.inv_scale();
        let norm = self.known_norm(&grads, unscaling)?;
        #[cfg(feature = "cuda")]
        if self.on_device.is_some() {
            let grads = crate::cuda::unscaled(grads, inv_scale)?;
            self.launch(&grads, None)?;
            self.last.grad_norm = norm;
            return Ok(());
        }
        let mut transform = GradTransform { inv_scale, ..GradTransform::default() };
        transform.clip_value = self.clip.and_then(Clip::limit);
        let norm = match (norm, self.clip.and_then(Clip::max_norm)) {
            (None, Some(_)) => Some(look(&grads, inv_scale)?.norm),
            (known, _) => known,
        };
        if let (Some(norm), Some(max_norm)) = (norm, self.clip.and_then(Clip::max_norm)) {
            transform.clip_coef = clip_coef(max_norm, norm);
        }
        let lr = self.next_lr();
        cpu::step(&self.parameters, &mut self.slots, &grads, (&self.rule, lr), &self.groups, &transform)?;
        self.applied_steps += 1;
        self.last = LastStep { lr: Some(lr), grad_norm: norm };
        Ok(())
    }

    /// The norm of the unscaled gradients where a scaler has taken it, or where one that is not finite is an error.
    fn known_norm(&self, grads: &[Option<Tensor>], unscaling: &Unscaling) -> Result<Option<f64>> {
        let norm = unscaling.sum_squares().map(f64::sqrt);
        let errs = self.clip.is_some_and(Clip::errs_if_nonfinite);
        if !errs || norm.is_some_and(f64::is_finite) {
            return Ok(norm);
        }
        let seen = look(grads, unscaling.inv_scale())?;
        seen.check(&self.parameters)?;
        Ok(Some(seen.norm))
    }

    /// The rate of the next step, as far as the host knows how many were applied.
    fn next_lr(&self) -> f64 {
        self.schedule.map_or(self.rule.lr(), |schedule| schedule.lr(self.applied_steps()))
    }

    /// Launches a step, which `scaler` may have the device skip.
    #[cfg(feature = "cuda")]
    fn launch(
        &mut self,
        grads: &[Option<Tensor>],
        scaler: Option<&mut DeviceScaler>,
    ) -> Result<Option<PendingStep>> {
        let Some(on_device) = &mut self.on_device else { return Ok(None) };
        let model = (&self.parameters[..], &self.slots[..], &self.groups[..]);
        let rates = self.schedule.map(|schedule| (schedule, self.applied_steps));
        let step = on_device.step(model, grads, (&self.rule, rates), self.clip, scaler)?;
        // What became of the step before it is of no interest any more.
        self.last = LastStep::default();
        Ok(Some(step))
    }
}

impl<R: Rule> ScaledOptimizer for Fused<R> {
    fn id(&self) -> OptimizerId {
        self.id
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn step_unscaling(&mut self, grads: &GradStore, unscaling: &Unscaling) -> grad_scaler::Result<()> {
        self.apply(grads, unscaling).map_err(|error| grad_scaler::Error::Optimizer(Box::new(error)))
    }

    fn step_was_skipped(&mut self, unscaling: &Unscaling) {
        let grad_norm = unscaling.sum_squares().map(f64::sqrt);
        self.last = LastStep { lr: Some(self.next_lr()), grad_norm };
    }

    #[cfg(feature = "cuda")]
    fn step_on_device(
        &mut self,
        grads: &GradStore,
        scaler: &mut DeviceScaler,
    ) -> grad_scaler::Result<Option<PendingStep>> {
        if self.on_device.is_none() {
            return Ok(None);
        }
        let step = gradients(&self.parameters, grads).and_then(|grads| self.launch(&grads, Some(scaler)));
        step.map_err(|error| grad_scaler::Error::Optimizer(Box::new(error)))
    }
}

impl<R: Rule> Optimizer for Fused<R> {
    fn step(&mut self, grads: &GradStore) -> Result<StepOutcome> {
        self.apply(grads, &Unscaling::none())?;
        Ok(StepOutcome::Applied)
    }

    fn learning_rate(&self) -> f64 {
        let Some(schedule) = self.schedule else { return self.rule.lr() };
        #[cfg(feature = "cuda")]
        if let (Some(on_device), None) = (&self.on_device, self.last.lr) {
            return schedule.lr(self.applied_steps + on_device.applied_before_last());
        }
        self.last.lr.unwrap_or_else(|| schedule.lr(self.applied_steps))
    }

    fn last_learning_rate(&self) -> Result<f64> {
        #[cfg(feature = "cuda")]
        if let Some(on_device) = &self.on_device {
            on_device.wait()?;
        }
        Ok(self.learning_rate())
    }

    fn set_learning_rate(&mut self, lr: f64) -> Result<()> {
        check_non_negative("lr", lr)?;
        self.rule.set_lr(lr);
        self.set_schedule(None);
        Ok(())
    }

    fn set_schedule(&mut self, schedule: Option<Schedule>) {
        self.schedule = schedule;
        self.last.lr = None;
        #[cfg(feature = "cuda")]
        if let Some(on_device) = &mut self.on_device {
            on_device.forget_rates();
        }
    }

    fn set_seed(&mut self, seed: u64) {
        self.seed = seed;
        if let crate::WriteBack::StochasticRounding { seed } = self.write_back.under(seed) {
            self.slots.iter_mut().for_each(|slot| slot.state.set_seed(seed));
        }
    }

    fn draws(&self) -> bool {
        matches!(self.write_back, crate::WriteBack::StochasticRounding { .. })
    }

    fn applied_steps(&self) -> u64 {
        #[cfg(feature = "cuda")]
        if let Some(on_device) = &self.on_device {
            return self.applied_steps + on_device.applied_or_pending();
        }
        self.applied_steps
    }

    fn grad_norm(&self) -> Option<f64> {
        #[cfg(feature = "cuda")]
        if let (Some(on_device), None) = (&self.on_device, self.last.grad_norm) {
            return on_device.grad_norm();
        }
        self.last.grad_norm
    }

    fn state_dict(&self) -> Result<HashMap<String, Tensor>> {
        crate::saved::save(self)
    }

    fn load_state_dict_with(
        &mut self,
        state: &HashMap<String, Tensor>,
        strictness: Strictness,
    ) -> Result<LoadReport> {
        crate::saved::load(self, state, strictness)
    }
}
