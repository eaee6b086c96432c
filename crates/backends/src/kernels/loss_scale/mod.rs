//! The loss scale: what the loss is multiplied by, and how a step's outcome moves it.
//!
//! ```text
//! found_inf:  hysteresis_left -= 1; tracker = 0; at 0 left: scale = max(f32(scale * backoff), min_scale)
//! else:       tracker += 1; at the interval: n = min(f32(scale * growth), max_scale); if finite: scale = n; tracker = 0
//! ```
//!
//! The hysteresis is filled again when a growth interval ends, or at every clean step. [`ScaleState::update`] is what runs
//! on a CPU and the oracle of `loss_scale.cu`, which is bit-exact against it. Values are taken as they are: `grad-scaler`
//! checks them.
//!
//! # Source
//!
//! PyTorch's `_amp_update_scale_` (`aten/src/ATen/native/cuda/AmpKernels.cu`); hysteresis as in apex and Megatron-LM.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "candle")]
mod scale;

#[cfg(feature = "cuda")]
pub(crate) use cuda::OnDevice;
#[cfg(feature = "cuda")]
pub(crate) use scale::Counting;
#[cfg(feature = "candle")]
pub use scale::LossScale;

/// When a used-up hysteresis is filled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Refill {
    /// When a growth interval ends without an overflow (Megatron-LM).
    #[default]
    OnGrowth,
    /// At every step without an overflow (apex).
    OnCleanStep,
}

/// How the scale begins and moves. What takes it checks it: `grad_scaler::GradScaler::new` says what the ranges are.
///
/// The default is PyTorch's. [`recommended`](Self::recommended) adds a floor of 1, without which a run of overflows
/// takes the scale to 0, from where it never comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScalerConfig {
    /// The scale of the first step: positive and finite in f32, in which the scale is kept.
    pub init_scale: f64,
    /// What the scale is multiplied by when it grows: finite and above 1.
    pub growth_factor: f64,
    /// What the scale is multiplied by when it backs off: between 0 and 1.
    pub backoff_factor: f64,
    /// Steps in a row without an overflow before the scale grows: at least 1, below 2^31.
    pub growth_interval: u32,
    /// The floor, if there is one: at most the initial scale.
    pub min_scale: Option<f64>,
    /// The ceiling, if there is one: at least the initial scale.
    pub max_scale: Option<f64>,
    /// Backs off only at the overflow of this number since the last refill. 1 backs off at every one, as PyTorch does.
    /// Every overflow skips its step all the same.
    pub hysteresis: u32,
    /// When the hysteresis is filled again.
    pub refill: Refill,
    /// Whether the scale stays what it is at the first step. Steps with an overflow are still skipped.
    pub is_static: bool,
}

impl Default for ScalerConfig {
    fn default() -> Self {
        Self {
            init_scale: 65536.0,
            growth_factor: 2.0,
            backoff_factor: 0.5,
            growth_interval: 2000,
            min_scale: None,
            max_scale: None,
            hysteresis: 1,
            refill: Refill::OnGrowth,
            is_static: false,
        }
    }
}

impl ScalerConfig {
    /// The default with a floor: the scale stays at 1 or above.
    pub fn recommended() -> Self {
        Self { min_scale: Some(1.0), ..Self::default() }
    }
}

/// The scale and how far it is from growing.
///
/// [`update`](Self::update) is a pure function, equal to PyTorch's `_amp_update_scale_` to the bit where the settings have
/// neither bounds, hysteresis nor a static scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScaleState {
    /// What the loss is multiplied by.
    pub scale: f32,
    /// Steps in a row without an overflow.
    pub growth_tracker: i32,
    /// Overflows that are left before the scale backs off; 0 when every further one does.
    pub hysteresis_left: u32,
}

impl ScaleState {
    /// The state before the first step.
    pub fn new(settings: &ScalerConfig) -> Self {
        Self { scale: settings.init_scale as f32, growth_tracker: 0, hysteresis_left: settings.hysteresis }
    }

    /// The state after a step whose gradients held an infinity or NaN (`found_inf`), or held none.
    ///
    /// Products are taken in f64 and rounded to f32 once. A growth that would leave the finite numbers is not taken.
    #[must_use]
    pub fn update(self, found_inf: bool, settings: &ScalerConfig) -> Self {
        if settings.is_static {
            self
        } else if found_inf {
            self.after_overflow(settings)
        } else {
            self.after_clean_step(settings)
        }
    }

    fn after_overflow(self, settings: &ScalerConfig) -> Self {
        let hysteresis_left = self.hysteresis_left.saturating_sub(1);
        let scale = if hysteresis_left > 0 {
            self.scale
        } else {
            let backed_off = (f64::from(self.scale) * settings.backoff_factor) as f32;
            settings.min_scale.map_or(backed_off, |floor| backed_off.max(floor as f32))
        };
        Self { scale, growth_tracker: 0, hysteresis_left }
    }

    fn after_clean_step(self, settings: &ScalerConfig) -> Self {
        let tracker = self.growth_tracker.saturating_add(1);
        let grows = i64::from(tracker) == i64::from(settings.growth_interval);
        let refilled = match settings.refill {
            Refill::OnCleanStep => settings.hysteresis,
            Refill::OnGrowth if grows => settings.hysteresis,
            Refill::OnGrowth => self.hysteresis_left,
        };
        if !grows {
            return Self { growth_tracker: tracker, hysteresis_left: refilled, ..self };
        }
        let grown = (f64::from(self.scale) * settings.growth_factor) as f32;
        let bounded = settings.max_scale.map_or(grown, |ceiling| grown.min(ceiling as f32));
        let scale = if bounded.is_finite() { bounded } else { self.scale };
        Self { scale, growth_tracker: 0, hysteresis_left: refilled }
    }

    /// What takes the scale out of a gradient: `1 / scale`, computed in f64 and rounded to f32.
    pub fn inv_scale(self) -> f32 {
        (1.0 / f64::from(self.scale)) as f32
    }
}
