//! `GradScaler`: the state machine applied to losses, gradients and optimizers.

use crate::active::{Active, Mode, PerOptimizer, Stage};
use crate::diagnostics::{Diagnostics, DiagnosticsConfig, HistoryEntry};
use crate::optimizer::{ScaledOptimizer, Unscaling};
use crate::scale::Scale;
use crate::state_dict::{self, StateDict};
use crate::{
    Error, LoadReport, Result, ScaleState, ScalerConfig, StepCounts, StepOutcome, Strictness, gradients,
};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};

/// Scales losses, and decides whether the optimizer may use the gradients that come back.
///
/// Per optimizer and step: [`scale`](Self::scale) a loss and run its backward; optionally
/// [`unscale_`](Self::unscale_), to clip or to look at the gradients; [`step`](Self::step); and, once for all
/// optimizers, [`update`](Self::update).
#[derive(Debug)]
pub struct GradScaler {
    pub(crate) active: Option<Active>,
}

impl GradScaler {
    /// A scaler for losses and gradients on `device`.
    ///
    /// # Errors
    ///
    /// [`Error::UnsupportedDevice`] where this build has no kernels for the device.
    pub fn new(config: ScalerConfig, device: &Device) -> Result<Self> {
        Ok(Self { active: Some(Active::new(Mode::Scaling, config, device)?) })
    }

    /// A scaler that scales nothing, and skips a step where a gradient is infinite or NaN, as any scaler does: for the
    /// precisions whose gradients need no scale, in which one bad batch would otherwise end a run.
    ///
    /// Losses stay as they are, the scale is 1 for good, the saved state is empty, and bf16 is taken. On a CUDA device the
    /// device decides, and the host does not wait.
    ///
    /// # Errors
    ///
    /// [`Error::UnsupportedDevice`] where this build has no kernels for the device.
    pub fn skipping(device: &Device) -> Result<Self> {
        let config = ScalerConfig::default().with_static_scale(1.0)?;
        Ok(Self { active: Some(Active::new(Mode::Skipping, config, device)?) })
    }

    /// Remembers what helps when a run goes bad. A disabled scaler looks at nothing, and has nothing to remember. On a CUDA
    /// device every step then waits, and names the parameters that overflowed.
    #[must_use]
    pub fn with_diagnostics(mut self, config: DiagnosticsConfig) -> Self {
        if let Some(on) = &mut self.active {
            on.diagnostics = Some(Diagnostics::new(config));
        }
        self
    }

    /// A scaler that does nothing: the scale is 1, every step is taken, the state is empty. For code that runs at any
    /// precision.
    pub fn disabled() -> Self {
        Self { active: None }
    }

    /// Whether it scales losses.
    pub fn is_enabled(&self) -> bool {
        self.scaling().is_some()
    }

    /// What scales, where something does.
    fn scaling(&self) -> Option<&Active> {
        self.active.as_ref().filter(|on| on.mode == Mode::Scaling)
    }

    /// The current scale; 1 where nothing is scaled. Waits for a CUDA device, and is NaN where that has failed.
    pub fn get_scale(&self) -> f32 {
        let Some(on) = self.scaling() else { return 1.0 };
        on.scale.wait_for_state().map_or(f32::NAN, |state| state.scale)
    }

    /// The settings of the scale, where there is one.
    pub fn config(&self) -> Option<&ScalerConfig> {
        self.scaling().map(|on| &on.config)
    }

    /// The state of the scale, where there is one. Waits for a CUDA device, and is `None` where that has failed.
    pub fn state(&self) -> Option<ScaleState> {
        self.scaling()?.scale.wait_for_state().ok()
    }

    /// How many steps were taken and skipped so far; zero where disabled.
    ///
    /// Does not wait: on a CUDA device a step is counted once the host has heard of its outcome. Whatever waits for the
    /// device, such as [`get_scale`](Self::get_scale) or reading a loss after its step, completes the counts.
    pub fn steps(&self) -> StepCounts {
        self.active.as_ref().map_or_else(StepCounts::default, Active::steps)
    }

    /// The loss, or any output, times the scale. An f16 loss becomes f32 first: times 65536 it would be infinite. Where
    /// nothing is scaled, the loss as it is, of any dtype.
    ///
    /// # Errors
    ///
    /// [`Error::Bf16`] for bf16, [`Error::NotAFloat`] for integers.
    pub fn scale(&self, loss: &Tensor) -> Result<Tensor> {
        let Some(on) = self.scaling() else { return Ok(loss.clone()) };
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
        let Some(on) = &mut self.active else { return Ok(()) };
        match on.stage(optimizer.id()) {
            None => {}
            Some(Stage::Unscaled) => return Err(Error::AlreadyUnscaled),
            Some(Stage::Stepped) => return Err(Error::UnscaleAfterStep),
        }
        let found = on.inspect("unscale_", optimizer, grads)?;
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
        let Some(on) = &mut self.active else {
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
                let found = on.inspect("step", optimizer, grads)?;
                let inv_scale = on.scale.wait_for_state()?.inv_scale();
                let unscaling = Unscaling::new(inv_scale, found.sum_squares);
                (found, unscaling)
            }
        };
        let outcome = if found.inf {
            optimizer.step_was_skipped(&Unscaling::new(unscaling.inv_scale(), found.sum_squares));
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
        let Some(on) = &mut self.active else { return Ok(()) };
        if on.optimizers.is_empty() {
            return Err(Error::NoInfChecks);
        }
        let found_inf = on.optimizers.drain().any(|(_, optimizer)| optimizer.found.inf);
        if let Some(diagnostics) = &mut on.diagnostics {
            let scale = on.scale.wait_for_state()?.scale;
            diagnostics.update(HistoryEntry { scale, found_inf }, &on.config);
        }
        match on.mode {
            Mode::Scaling => on.scale.update(found_inf, &on.config),
            Mode::Skipping => Ok(()),
        }
    }

    /// What was remembered, where [`with_diagnostics`](Self::with_diagnostics) asked for it.
    pub fn diagnostics(&self) -> Option<&Diagnostics> {
        self.active.as_ref()?.diagnostics.as_ref()
    }

    /// Settings and state, to be saved between an [`update`](Self::update) and the next step. Empty where
    /// nothing is scaled. Waits for a CUDA device.
    ///
    /// # Errors
    ///
    /// When the device on which the scale lives fails; never on a CPU.
    pub fn state_dict(&self) -> Result<StateDict> {
        let Some(on) = self.scaling() else { return Ok(StateDict::default()) };
        Ok(state_dict::save(&on.config, &on.scale.wait_for_state()?))
    }

    /// Restores settings and state, ours or those of PyTorch's scaler; where nothing is scaled, they are ignored. Nothing
    /// changes where it returns an error. Every entry must be there, and no other:
    /// [`load_state_dict_with`](Self::load_state_dict_with) can be told otherwise.
    ///
    /// A state with PyTorch's keys alone (`scale`, `growth_factor`, `backoff_factor`, `growth_interval`,
    /// `_growth_tracker`) leaves the settings that PyTorch does not know as they are.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyState`], [`Error::MissingKey`], [`Error::UnexpectedKey`], [`Error::IllTypedValue`], and
    /// [`Error::InvalidSetting`] for a value that no config or state can have.
    pub fn load_state_dict(&mut self, saved: &StateDict) -> Result<()> {
        self.load_state_dict_with(saved, Strictness::Strict).map(drop)
    }

    /// [`load_state_dict`](Self::load_state_dict), and what became of entries that do not fit: where lenient, those that
    /// are missing stay as they are, and unknown ones are left out.
    ///
    /// # Errors
    ///
    /// As for [`load_state_dict`](Self::load_state_dict); where lenient, [`Error::IllTypedValue`] and
    /// [`Error::InvalidSetting`] alone.
    pub fn load_state_dict_with(&mut self, saved: &StateDict, strictness: Strictness) -> Result<LoadReport> {
        let Some(on) = self.active.as_mut().filter(|on| on.mode == Mode::Scaling) else {
            let unused = saved.keys().cloned().collect();
            return Ok(LoadReport { unused, ..LoadReport::default() });
        };
        // Counts outlive the scale that they were counted under: wait for those that are still coming in.
        let present = on.scale.wait_for_state()?;
        let (config, state, report) = state_dict::load(saved, (&on.config, &present), strictness)?;
        let (steps, scale) = (on.steps(), Scale::new(&config, state, &on.scale.device())?);
        (on.config, on.scale, on.steps) = (config, scale, steps);
        on.optimizers.clear();
        Ok(report)
    }
}
