//! Taking a step, and what is told of it: the traits of `Fused`.

use crate::error::check_non_negative;
use crate::gradients::gradients;
use crate::rule::Rule;
use crate::{
    Clip, Error, Fused, Group, LoadReport, Optimizer, OptimizerId, Parameter, Result, ScaledOptimizer,
    Schedule, StepCounts, Strictness,
};
use backends::kernels::step::{self, OnNonFinite, Pending, Scaling, Settings, WriteBack};
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use std::collections::HashMap;

impl<R: Rule> ScaledOptimizer for Fused<R> {
    fn id(&self) -> OptimizerId {
        self.id
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn scaled_step(&mut self, grads: &GradStore, scaling: Scaling<'_>) -> Result<Pending> {
        let Self { parameters, slots, groups, rule, schedule, clip, stepper, .. } = self;
        // candle-nn's trait sets it unchecked.
        check_non_negative("step", "lr", self.lr)?;
        let grads = gradients(parameters, grads)?;
        let operands: Vec<step::Parameter<'_>> = grads
            .iter()
            .map(|(slot, grad)| step::Parameter {
                slot: *slot,
                group: slots[*slot].group,
                weights: &parameters[*slot].var,
                grad,
                state: &slots[*slot].state,
            })
            .collect();
        let rate = schedule.map(|schedule| move |applied| schedule.lr(applied));
        // A schedule's rate comes on top, when it is known how many steps were applied.
        let lr = if rate.is_some() { 1.0 } else { self.lr };
        let group = |group: &Group| {
            rule.settings(lr * group.lr_scale, group.weight_decay.unwrap_or(rule.weight_decay()))
        };
        let groups: Vec<_> = groups.iter().map(group).collect();
        let settings = Settings {
            max_norm: clip.and_then(Clip::max_norm),
            clip_value: clip.and_then(Clip::limit),
            on_non_finite: clip.map_or(OnNonFinite::Propagate, Clip::on_non_finite),
            rate: rate.as_ref().map(|rate| rate as &dyn Fn(u64) -> f64),
        };
        stepper.step(&operands, &groups, &settings, scaling).map_err(|error| match error {
            backends::Error::NonFinite { norm, slots, .. } => Error::non_finite(norm, &slots, parameters),
            other => other.into(),
        })
    }
}

impl<R: Rule> Fused<R> {
    /// The rate of the last step that the host has heard of, or of the next one where there is none at this schedule.
    fn heard_rate(&self) -> Result<f64> {
        let Some(schedule) = self.schedule else { return Ok(self.lr) };
        let applied = match self.stepper.last_at_rate()? {
            Some(outcome) => outcome.applied_before,
            None => self.stepper.counts()?.applied,
        };
        Ok(schedule.lr(applied))
    }
}

impl<R: Rule> Optimizer for Fused<R> {
    fn learning_rate(&self) -> f64 {
        self.heard_rate().unwrap_or(f64::NAN)
    }

    fn last_learning_rate(&self) -> Result<f64> {
        self.stepper.wait()?;
        self.heard_rate()
    }

    fn set_learning_rate(&mut self, lr: f64) -> Result<()> {
        check_non_negative("set_learning_rate", "lr", lr)?;
        self.lr = lr;
        self.set_schedule(None);
        Ok(())
    }

    fn set_schedule(&mut self, schedule: Option<Schedule>) {
        self.schedule = schedule;
        self.stepper.rates_changed();
    }

    fn set_clip(&mut self, clip: Option<Clip>) {
        self.clip = clip;
    }

    fn set_seed(&mut self, seed: u64) {
        self.seed = seed;
        if let crate::WriteBack::StochasticRounding { seed: now } = self.write_back.under(seed) {
            for slot in &mut self.slots {
                if let WriteBack::Stochastic { key } = &mut slot.state.write_back {
                    *key = now;
                }
            }
        }
    }

    fn draws(&self) -> bool {
        matches!(self.write_back, crate::WriteBack::StochasticRounding { .. })
    }

    fn steps(&self) -> Result<StepCounts> {
        Ok(self.stepper.counts()?)
    }

    fn grad_norm(&self) -> Option<f64> {
        self.stepper.last().ok().flatten()?.grad_norm
    }

    fn last_grad_norm(&self) -> Result<Option<f64>> {
        self.stepper.wait()?;
        Ok(self.grad_norm())
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

/// For code that is written against candle-nn, such as `backward_step`. Parameters made by its `new` are named "0", "1" and
/// so on. A rate that is negative or not finite is an error of the next step.
impl<R: Rule> candle_nn::Optimizer for Fused<R> {
    type Config = R;

    fn new(vars: Vec<Var>, rule: R) -> candle_core::Result<Self> {
        let named = vars.into_iter().enumerate().map(|(index, var)| (index.to_string(), var));
        Fused::new(named, rule).map_err(candle_core::Error::wrap)
    }

    fn step(&mut self, grads: &GradStore) -> candle_core::Result<()> {
        Optimizer::step(self, grads).map_err(candle_core::Error::wrap)
    }

    fn learning_rate(&self) -> f64 {
        Optimizer::learning_rate(self)
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.lr = lr;
        self.set_schedule(None);
    }
}
