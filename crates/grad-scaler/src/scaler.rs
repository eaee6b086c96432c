//! `GradScaler`: the state machine applied to losses, gradients and optimizers.

use crate::active::{Active, Mode};
use crate::diagnostics::{Diagnostics, DiagnosticsConfig};
use crate::state_dict::{self, StateDict};
use crate::{
    Error, LoadReport, Result, ScaleState, ScaledOptimizer, ScalerConfig, StepCounts, StepOutcome, Strictness,
};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};
use optim::Scaling;

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
    /// [`Error::InvalidSetting`] for a field of `config` that is outside its range: `init_scale`, `min_scale` and
    /// `max_scale` are positive and finite in f32, and in this order `min_scale <= init_scale <= max_scale`;
    /// `1 < growth_factor < ∞`, `0 < backoff_factor < 1`, `1 <= growth_interval < 2^31`, `1 <= hysteresis`.
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
        let config = ScalerConfig { init_scale: 1.0, is_static: true, ..Default::default() };
        Ok(Self { active: Some(Active::new(Mode::Skipping, config, device)?) })
    }

    /// Remembers what helps when a run goes bad. A disabled scaler looks at nothing, and has nothing to remember. On a CUDA
    /// device every step then waits, and names the parameters that overflowed.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`] for a `history` or `patience` of 0.
    pub fn with_diagnostics(self, config: DiagnosticsConfig) -> Result<Self> {
        let diagnostics = Some(Diagnostics::new(config)?);
        Ok(Self { active: self.active.map(|on| Active { diagnostics, scale: on.scale.counting(), ..on }) })
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

    /// The current scale; 1 where nothing is scaled. Waits for a CUDA device.
    ///
    /// # Errors
    ///
    /// When the device on which the scale lives fails; never on a CPU.
    pub fn get_scale(&self) -> Result<f32> {
        Ok(self.state()?.map_or(1.0, |state| state.scale))
    }

    /// The settings of the scale, where there is one.
    pub fn config(&self) -> Option<&ScalerConfig> {
        self.scaling().map(|on| &on.config)
    }

    /// The state of the scale, where there is one. Waits for a CUDA device.
    ///
    /// # Errors
    ///
    /// When the device on which the scale lives fails; never on a CPU.
    pub fn state(&self) -> Result<Option<ScaleState>> {
        Ok(self.scaling().map(|on| on.scale.wait_for_state()).transpose()?)
    }

    /// How many steps were taken, how many skipped, and of how many the host has not heard yet, over all optimizers; zero
    /// where disabled.
    ///
    /// Does not wait: on a CUDA device a step is pending until the host has heard of its outcome. Whatever waits for the
    /// device, such as [`wait_for_steps`](Self::wait_for_steps) or reading a loss after its step, completes the counts.
    ///
    /// # Errors
    ///
    /// When the device has failed; never on a CPU.
    pub fn steps(&self) -> Result<StepCounts> {
        Ok(self.active.as_ref().map(|on| on.tally.counts()).transpose()?.unwrap_or_default())
    }

    /// The same once every outcome is known, so that none is pending. Waits for a CUDA device.
    ///
    /// # Errors
    ///
    /// When the device fails; never on a CPU.
    pub fn wait_for_steps(&self) -> Result<StepCounts> {
        Ok(self.active.as_ref().map(|on| on.tally.wait_for_counts()).transpose()?.unwrap_or_default())
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
        Ok(on.scale.times(&wide)?)
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
        self.active.as_mut().map_or(Ok(()), |on| on.unscale(optimizer, grads))
    }

    /// A gradient without the scale that it carries, in f32 (f64 where it is f64), to be looked at; the optimizer's step goes on
    /// with the gradient as it is. Waits for a CUDA device where something is scaled.
    ///
    /// # Errors
    ///
    /// When the device fails.
    pub fn unscaled(&self, grad: &Tensor) -> Result<Tensor> {
        let inv_scale = self.state()?.map_or(1.0, |state| state.inv_scale());
        Ok(crate::active::unscaled(grad, inv_scale)?)
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
        if let Some(on) = &mut self.active {
            return on.step(optimizer, grads);
        }
        optimizer.scaled_step(grads, Scaling::None)?;
        Ok(StepOutcome::Applied)
    }

    /// Moves the scale according to what was found since the last update: one optimizer that found an infinity is
    /// enough to back off.
    ///
    /// # Errors
    ///
    /// [`Error::NoInfChecks`] when no optimizer was stepped or unscaled.
    pub fn update(&mut self) -> Result<()> {
        let Some(on) = &mut self.active else { return Ok(()) };
        if on.stages.is_empty() {
            return Err(Error::NoInfChecks);
        }
        on.stages.clear();
        if let Some(diagnostics) = &mut on.diagnostics {
            diagnostics.update(on.scale.wait_for_state()?.scale, &on.config);
        }
        match on.mode {
            Mode::Scaling => Ok(on.scale.update()?),
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
            let mut report = LoadReport::default();
            report.unused.extend(saved.keys().cloned());
            return Ok(report);
        };
        let present = on.scale.wait_for_state()?;
        let (config, state, report) = state_dict::load(saved, (&on.config, &present), strictness)?;
        on.scale.reset(config, state)?;
        on.config = config;
        on.stages.clear();
        Ok(report)
    }
}
