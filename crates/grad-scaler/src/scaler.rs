//! `GradScaler`: the state machine applied to losses, gradients and optimizers.

use crate::diagnostics::{Diagnostics, DiagnosticsConfig, HistoryEntry};
use crate::optimizer::{OptimizerId, ScaledOptimizer, Unscaling};
use crate::scale::Scale;
use crate::state_dict::{self, StateDict};
use crate::{Error, Result, ScaleState, ScalerConfig, StepCounts, StepOutcome, gradients};
use backends::kernels::grad_stats::GradStats;
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;

/// Scales losses, and decides whether the optimizer may use the gradients that come back.
///
/// Per optimizer and step: [`scale`](Self::scale) a loss and run its backward; optionally
/// [`unscale_`](Self::unscale_), to clip or to look at the gradients; [`step`](Self::step); and, once for all
/// optimizers, [`update`](Self::update).
#[derive(Debug)]
pub struct GradScaler {
    enabled: Option<Enabled>,
}

#[derive(Debug)]
struct Enabled {
    config: ScalerConfig,
    scale: Scale,
    optimizers: HashMap<OptimizerId, PerOptimizer>,
    /// Those that the host decided about.
    steps: StepCounts,
    diagnostics: Option<Diagnostics>,
}

/// How far an optimizer has come since the last update, and what its gradients held.
#[derive(Debug)]
struct PerOptimizer {
    stage: Stage,
    found: Found,
}

/// What a look at an optimizer's gradients brought.
#[derive(Clone, Debug)]
struct Found {
    inf: bool,
    /// The parameters behind it, where diagnostics are on.
    overflowed: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Unscaled,
    Stepped,
}

impl GradScaler {
    /// A scaler for losses and gradients on `device`.
    ///
    /// # Errors
    ///
    /// [`Error::UnsupportedDevice`] where this build has no kernels for the device.
    pub fn new(config: ScalerConfig, device: &Device) -> Result<Self> {
        let scale = Scale::new(&config, ScaleState::new(&config), device)?;
        let enabled = Enabled {
            config,
            scale,
            optimizers: HashMap::new(),
            steps: StepCounts::default(),
            diagnostics: None,
        };
        Ok(Self { enabled: Some(enabled) })
    }

    /// Remembers what helps when a run goes bad. Skipped steps then name the parameters that overflowed.
    #[must_use]
    pub fn with_diagnostics(mut self, config: DiagnosticsConfig) -> Self {
        if let Some(on) = &mut self.enabled {
            on.diagnostics = Some(Diagnostics::new(config));
        }
        self
    }

    /// A scaler that does nothing: the scale is 1, every step is taken, the state is empty. For code that runs at any
    /// precision.
    pub fn disabled() -> Self {
        Self { enabled: None }
    }

    /// Whether it scales at all.
    pub fn is_enabled(&self) -> bool {
        self.enabled.is_some()
    }

    /// The current scale; 1 where disabled. Waits for a CUDA device, and is NaN where that has failed.
    pub fn get_scale(&self) -> f32 {
        let Some(on) = &self.enabled else { return 1.0 };
        on.scale.wait_for_state().map_or(f32::NAN, |state| state.scale)
    }

    /// The settings, where enabled.
    pub fn config(&self) -> Option<&ScalerConfig> {
        self.enabled.as_ref().map(|on| &on.config)
    }

    /// The state, where enabled. Waits for a CUDA device, and is `None` where that has failed.
    pub fn state(&self) -> Option<ScaleState> {
        self.enabled.as_ref()?.scale.wait_for_state().ok()
    }

    /// How many steps were taken and skipped so far; zero where disabled.
    ///
    /// Does not wait: on a CUDA device a step is counted once the host has heard of its outcome. Whatever waits for the
    /// device, such as [`get_scale`](Self::get_scale) or reading a loss after its step, completes the counts.
    pub fn steps(&self) -> StepCounts {
        self.enabled.as_ref().map_or_else(StepCounts::default, Enabled::steps)
    }

    /// The loss, or any output, times the scale. An f16 loss becomes f32 first: times 65536 it would be infinite.
    ///
    /// # Errors
    ///
    /// [`Error::Bf16`] for bf16, [`Error::NotAFloat`] for integers.
    pub fn scale(&self, loss: &Tensor) -> Result<Tensor> {
        let Some(on) = &self.enabled else { return Ok(loss.clone()) };
        let wide = match loss.dtype() {
            DType::F16 => loss.to_dtype(DType::F32)?,
            DType::F32 | DType::F64 => loss.clone(),
            DType::BF16 => return Err(Error::Bf16 { op: "scale", what: "the loss".into() }),
            other => {
                return Err(Error::NotAFloat { op: "scale", what: "the loss".into(), got: other.as_str() });
            }
        };
        on.scale.times(&wide)
    }

    /// Takes the scale out of the gradients of `optimizer`'s parameters, which become f32 (f64 where they are f64), so
    /// that they can be clipped or looked at. [`step`](Self::step) then uses them as they are. Waits for a CUDA device.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyUnscaled`], [`Error::UnscaleAfterStep`], [`Error::NoGradients`], [`Error::Bf16`].
    pub fn unscale_<O>(&mut self, optimizer: &O, grads: &mut GradStore) -> Result<()>
    where
        O: ScaledOptimizer + ?Sized,
    {
        let Some(on) = &mut self.enabled else { return Ok(()) };
        match on.stage(optimizer.id()) {
            None => {}
            Some(Stage::Unscaled) => return Err(Error::AlreadyUnscaled),
            Some(Stage::Stepped) => return Err(Error::UnscaleAfterStep),
        }
        let (found, _) = on.inspect("unscale_", optimizer, grads)?;
        let inv_scale = on.scale.wait_for_state()?.inv_scale();
        gradients::unscale(optimizer.parameters(), grads, inv_scale)?;
        on.optimizers.insert(optimizer.id(), PerOptimizer { stage: Stage::Unscaled, found });
        Ok(())
    }

    /// Lets `optimizer` take its step, unless one of its gradients is infinite or NaN.
    ///
    /// On a CUDA device the device decides, and [`StepOutcome::Pending`] comes back before it has. The host waits for it
    /// only after [`unscale_`](Self::unscale_), with diagnostics on, and for optimizers of candle-nn; the outcome is then
    /// known.
    ///
    /// # Units
    ///
    /// The gradients carry the scale, unless [`unscale_`](Self::unscale_) took it out.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyStepped`], [`Error::NoGradients`], [`Error::Bf16`], and the optimizer's own.
    pub fn step<O>(&mut self, optimizer: &mut O, grads: &GradStore) -> Result<StepOutcome>
    where
        O: ScaledOptimizer + ?Sized,
    {
        let Some(on) = &mut self.enabled else {
            optimizer.step_unscaling(grads, &Unscaling::none())?;
            return Ok(StepOutcome::Applied);
        };
        let (found, unscaling) = match on.optimizers.get(&optimizer.id()) {
            Some(PerOptimizer { stage: Stage::Stepped, .. }) => return Err(Error::AlreadyStepped),
            Some(PerOptimizer { stage: Stage::Unscaled, found }) => (found.clone(), Unscaling::none()),
            None => {
                #[cfg(feature = "cuda")]
                if on.launch(optimizer, grads)? {
                    return Ok(StepOutcome::Pending);
                }
                let (found, stats) = on.inspect("step", optimizer, grads)?;
                let inv_scale = on.scale.wait_for_state()?.inv_scale();
                (found, Unscaling::new(inv_scale, stats.sum_squares))
            }
        };
        let outcome = if found.inf {
            on.steps.skipped += 1;
            StepOutcome::Skipped { overflowed: found.overflowed.clone() }
        } else {
            optimizer.step_unscaling(grads, &unscaling)?;
            on.steps.applied += 1;
            StepOutcome::Applied
        };
        on.optimizers.insert(optimizer.id(), PerOptimizer { stage: Stage::Stepped, found });
        Ok(outcome)
    }

    /// Moves the scale according to what was found since the last update: one optimizer that found an infinity is
    /// enough to back off.
    ///
    /// # Errors
    ///
    /// [`Error::NoInfChecks`] when no optimizer was stepped or unscaled.
    pub fn update(&mut self) -> Result<()> {
        let Some(on) = &mut self.enabled else { return Ok(()) };
        if on.optimizers.is_empty() {
            return Err(Error::NoInfChecks);
        }
        let found_inf = on.optimizers.drain().any(|(_, optimizer)| optimizer.found.inf);
        if let Some(diagnostics) = &mut on.diagnostics {
            let scale = on.scale.wait_for_state()?.scale;
            diagnostics.update(HistoryEntry { scale, found_inf }, &on.config);
        }
        on.scale.update(found_inf, &on.config)
    }

    /// What was remembered, where [`with_diagnostics`](Self::with_diagnostics) asked for it.
    pub fn diagnostics(&self) -> Option<&Diagnostics> {
        self.enabled.as_ref()?.diagnostics.as_ref()
    }

    /// Settings and state, to be saved between an [`update`](Self::update) and the next step. Empty where disabled. Waits
    /// for a CUDA device.
    ///
    /// # Errors
    ///
    /// When the device on which the scale lives fails; never on a CPU.
    pub fn state_dict(&self) -> Result<StateDict> {
        let Some(on) = &self.enabled else { return Ok(StateDict::default()) };
        Ok(state_dict::save(&on.config, &on.scale.wait_for_state()?))
    }

    /// Restores settings and state; a disabled scaler ignores them. Nothing changes where it returns an error.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyState`], [`Error::MissingKey`], [`Error::UnexpectedKey`], [`Error::IllTypedValue`], and
    /// [`Error::InvalidSetting`] for a value that no config or state can have.
    pub fn load_state_dict(&mut self, saved: &StateDict) -> Result<()> {
        let Some(on) = &mut self.enabled else { return Ok(()) };
        let (config, state) = state_dict::load(saved)?;
        // Counts outlive the scale that they were counted under: wait for those that are still coming in.
        on.scale.wait_for_state()?;
        let (steps, scale) = (on.steps(), Scale::new(&config, state, &on.scale.device())?);
        (on.config, on.scale, on.steps) = (config, scale, steps);
        on.optimizers.clear();
        Ok(())
    }
}

impl Enabled {
    fn stage(&self, id: OptimizerId) -> Option<Stage> {
        self.optimizers.get(&id).map(|optimizer| optimizer.stage)
    }

    fn steps(&self) -> StepCounts {
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
    fn launch<O>(&mut self, optimizer: &mut O, grads: &GradStore) -> Result<bool>
    where
        O: ScaledOptimizer + ?Sized,
    {
        let Scale::Device(on_device) = &mut self.scale else { return Ok(false) };
        if self.diagnostics.is_some() || !on_device.launch(optimizer, grads)? {
            return Ok(false);
        }
        let found = Found { inf: false, overflowed: Vec::new() };
        self.optimizers.insert(optimizer.id(), PerOptimizer { stage: Stage::Stepped, found });
        Ok(true)
    }

    fn inspect<O>(&mut self, op: &'static str, optimizer: &O, grads: &GradStore) -> Result<(Found, GradStats)>
    where
        O: ScaledOptimizer + ?Sized,
    {
        let parameters = optimizer.parameters();
        let stats = match &mut self.scale {
            Scale::Host(state) => gradients::stats(op, parameters, grads, state.inv_scale())?,
            #[cfg(feature = "cuda")]
            Scale::Device(on_device) => on_device.stats(op, optimizer.id(), parameters, grads)?,
        };
        let overflowed = self.diagnostics.as_mut().map(|d| d.record(parameters, &stats)).unwrap_or_default();
        let total = stats.into_iter().fold(GradStats::default(), |all, (_, one)| all.merge(one));
        Ok((Found { inf: total.found_inf(), overflowed }, total))
    }
}
