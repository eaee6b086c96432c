//! `GradScaler`: the state machine applied to losses, gradients and optimizers.

use crate::diagnostics::{Diagnostics, DiagnosticsConfig, HistoryEntry};
use crate::optimizer::{OptimizerId, ScaledOptimizer, Unscaling};
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
    state: ScaleState,
    optimizers: HashMap<OptimizerId, PerOptimizer>,
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
        gradients::check_device("GradScaler::new", "the scale", device)?;
        let state = ScaleState::new(&config);
        let enabled = Enabled {
            config,
            state,
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

    /// The current scale; 1 where disabled.
    pub fn get_scale(&self) -> f32 {
        self.enabled.as_ref().map_or(1.0, |on| on.state.scale)
    }

    /// The settings, where enabled.
    pub fn config(&self) -> Option<&ScalerConfig> {
        self.enabled.as_ref().map(|on| &on.config)
    }

    /// The state, where enabled.
    pub fn state(&self) -> Option<ScaleState> {
        self.enabled.as_ref().map(|on| on.state)
    }

    /// How many steps were taken and skipped so far; zero where disabled.
    pub fn steps(&self) -> StepCounts {
        self.enabled.as_ref().map_or_else(StepCounts::default, |on| on.steps)
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
        Ok(wide.affine(f64::from(on.state.scale), 0.0)?)
    }

    /// Takes the scale out of the gradients of `optimizer`'s parameters, which become f32 (f64 where they are f64), so
    /// that they can be clipped or looked at. [`step`](Self::step) then uses them as they are.
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
        gradients::unscale(optimizer.parameters(), grads, on.state.inv_scale())?;
        on.optimizers.insert(optimizer.id(), PerOptimizer { stage: Stage::Unscaled, found });
        Ok(())
    }

    /// Lets `optimizer` take its step, unless one of its gradients is infinite or NaN.
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
                let (found, stats) = on.inspect("step", optimizer, grads)?;
                (found, Unscaling::new(on.state.inv_scale(), stats.sum_squares))
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
            diagnostics.update(HistoryEntry { scale: on.state.scale, found_inf }, &on.config);
        }
        on.state = on.state.update(found_inf, &on.config);
        Ok(())
    }

    /// What was remembered, where [`with_diagnostics`](Self::with_diagnostics) asked for it.
    pub fn diagnostics(&self) -> Option<&Diagnostics> {
        self.enabled.as_ref()?.diagnostics.as_ref()
    }

    /// Settings and state, to be saved between an [`update`](Self::update) and the next step. Empty where disabled.
    ///
    /// # Errors
    ///
    /// When the device on which the scale lives fails; never on a CPU.
    pub fn state_dict(&self) -> Result<StateDict> {
        let saved = self.enabled.as_ref().map(|on| state_dict::save(&on.config, &on.state));
        Ok(saved.unwrap_or_default())
    }

    /// Restores settings and state; a disabled scaler ignores them. Nothing changes where it returns an error.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyState`], [`Error::MissingKey`], [`Error::UnexpectedKey`], [`Error::IllTypedValue`], and
    /// [`Error::InvalidSetting`] for a value that no config or state can have.
    pub fn load_state_dict(&mut self, saved: &StateDict) -> Result<()> {
        let Some(on) = &mut self.enabled else { return Ok(()) };
        (on.config, on.state) = state_dict::load(saved)?;
        on.optimizers.clear();
        Ok(())
    }
}

impl Enabled {
    fn stage(&self, id: OptimizerId) -> Option<Stage> {
        self.optimizers.get(&id).map(|optimizer| optimizer.stage)
    }

    fn inspect<O>(&mut self, op: &'static str, optimizer: &O, grads: &GradStore) -> Result<(Found, GradStats)>
    where
        O: ScaledOptimizer + ?Sized,
    {
        let parameters = optimizer.parameters();
        let stats = gradients::stats(op, parameters, grads, self.state.inv_scale())?;
        let overflowed = self.diagnostics.as_mut().map(|d| d.record(parameters, &stats)).unwrap_or_default();
        let total = stats.into_iter().fold(GradStats::default(), |all, (_, one)| all.merge(one));
        Ok((Found { inf: total.found_inf(), overflowed }, total))
    }
}
