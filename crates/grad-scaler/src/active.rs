//! What is behind a scaler that is not disabled: the scale, and how far each optimizer has come since the last update.

use crate::diagnostics::Diagnostics;
use crate::optimizer::{OptimizerId, ScaledOptimizer};
use crate::scale::Scale;
use crate::{Result, ScaleState, ScalerConfig, StepCounts, gradients};
use backends::kernels::grad_stats::GradStats;
use candle_core::Device;
use candle_core::backprop::GradStore;
use std::collections::HashMap;

/// Whether losses are scaled, or steps are only skipped where a gradient is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Scaling,
    Skipping,
}

#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) mode: Mode,
    /// Where nothing is scaled, a static scale of 1.
    pub(crate) config: ScalerConfig,
    pub(crate) scale: Scale,
    pub(crate) optimizers: HashMap<OptimizerId, PerOptimizer>,
    /// Those that the host decided about.
    pub(crate) steps: StepCounts,
    pub(crate) diagnostics: Option<Diagnostics>,
}

/// How far an optimizer has come since the last update, and what its gradients held.
#[derive(Debug)]
pub(crate) struct PerOptimizer {
    pub(crate) stage: Stage,
    pub(crate) found: Found,
}

/// What a look at an optimizer's gradients brought.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) inf: bool,
    /// The parameters behind it.
    pub(crate) overflowed: Vec<String>,
    /// Of the unscaled gradients.
    pub(crate) sum_squares: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Unscaled,
    Stepped,
}

impl Active {
    pub(crate) fn new(mode: Mode, config: ScalerConfig, device: &Device) -> Result<Self> {
        let scale = Scale::new(&config, ScaleState::new(&config), device)?;
        let (optimizers, steps) = (HashMap::new(), StepCounts::default());
        Ok(Self { mode, config, scale, optimizers, steps, diagnostics: None })
    }

    pub(crate) fn stage(&self, id: OptimizerId) -> Option<Stage> {
        self.optimizers.get(&id).map(|optimizer| optimizer.stage)
    }

    pub(crate) fn steps(&self) -> StepCounts {
        match &self.scale {
            Scale::Host(_) => self.steps,
            #[cfg(feature = "cuda")]
            Scale::Device(on_device) => {
                let StepCounts { applied, skipped } = on_device.steps();
                StepCounts { applied: self.steps.applied + applied, skipped: self.steps.skipped + skipped }
            }
        }
    }

    /// Has the device decide about a step; `false` where it cannot, or where diagnostics want to know first.
    #[cfg(feature = "cuda")]
    pub(crate) fn launch<O>(&mut self, optimizer: &mut O, grads: &GradStore) -> Result<bool>
    where
        O: ScaledOptimizer + ?Sized,
    {
        let Scale::Device(on_device) = &mut self.scale else { return Ok(false) };
        if self.diagnostics.is_some() || !on_device.launch(self.mode, optimizer, grads)? {
            return Ok(false);
        }
        // What it finds, the device tells the scale by itself.
        let found = Found::default();
        self.optimizers.insert(optimizer.id(), PerOptimizer { stage: Stage::Stepped, found });
        Ok(true)
    }

    /// Looks at the gradients of `optimizer`. Waits for a CUDA device.
    pub(crate) fn inspect<O>(&mut self, op: &'static str, optimizer: &O, grads: &GradStore) -> Result<Found>
    where
        O: ScaledOptimizer + ?Sized,
    {
        let parameters = optimizer.parameters();
        let stats = match &mut self.scale {
            Scale::Host(state) => gradients::stats(op, self.mode, parameters, grads, state.inv_scale())?,
            #[cfg(feature = "cuda")]
            Scale::Device(on_device) => {
                on_device.stats((op, self.mode), optimizer.id(), parameters, grads)?
            }
        };
        let bad = stats.iter().filter(|(_, one)| one.found_inf());
        let overflowed: Vec<String> = bad.map(|(index, _)| parameters[*index].name.clone()).collect();
        if let Some(diagnostics) = &mut self.diagnostics {
            diagnostics.record(&overflowed, &stats);
        }
        let total = stats.into_iter().fold(GradStats::default(), |all, (_, one)| all.merge(one));
        Ok(Found { inf: total.found_inf(), overflowed, sum_squares: total.sum_squares })
    }
}
