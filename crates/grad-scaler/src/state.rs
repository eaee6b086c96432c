//! The state machine: what one step's outcome does to the scale.

use crate::{Refill, ScalerConfig};

/// The scale and how far it is from growing.
///
/// [`update`](Self::update) is a pure function, equal to PyTorch's `_amp_update_scale_` to the bit where the config sets
/// neither bounds, hysteresis nor a static scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScaleState {
    /// What the loss is multiplied by.
    pub scale: f32,
    /// Steps in a row without an overflow.
    pub growth_tracker: i32,
    /// Overflows that are left before the scale backs off.
    pub(crate) hysteresis_left: u32,
}

impl ScaleState {
    /// The state before the first step.
    pub fn new(config: &ScalerConfig) -> Self {
        Self { scale: config.init_scale() as f32, growth_tracker: 0, hysteresis_left: config.hysteresis() }
    }

    /// The state after a step whose gradients held an infinity or NaN (`found_inf`), or held none.
    ///
    /// Products are taken in f64 and rounded to f32 once. A growth that would leave the finite numbers is not taken.
    #[must_use]
    pub fn update(self, found_inf: bool, config: &ScalerConfig) -> Self {
        if config.is_static() {
            self
        } else if found_inf {
            self.after_overflow(config)
        } else {
            self.after_clean_step(config)
        }
    }

    fn after_overflow(self, config: &ScalerConfig) -> Self {
        let hysteresis_left = self.hysteresis_left.saturating_sub(1);
        let scale = if hysteresis_left > 0 {
            self.scale
        } else {
            let backed_off = (f64::from(self.scale) * config.backoff_factor()) as f32;
            config.min_scale().map_or(backed_off, |floor| backed_off.max(floor as f32))
        };
        Self { scale, growth_tracker: 0, hysteresis_left }
    }

    fn after_clean_step(self, config: &ScalerConfig) -> Self {
        let tracker = self.growth_tracker.saturating_add(1);
        let grows = i64::from(tracker) == i64::from(config.growth_interval());
        let refilled = match config.refill() {
            Refill::OnCleanStep => config.hysteresis(),
            Refill::OnGrowth if grows => config.hysteresis(),
            Refill::OnGrowth => self.hysteresis_left,
        };
        if !grows {
            return Self { growth_tracker: tracker, hysteresis_left: refilled, ..self };
        }
        let grown = (f64::from(self.scale) * config.growth_factor()) as f32;
        let bounded = config.max_scale().map_or(grown, |ceiling| grown.min(ceiling as f32));
        let scale = if bounded.is_finite() { bounded } else { self.scale };
        Self { scale, growth_tracker: 0, hysteresis_left: refilled }
    }

    /// Overflows that are left before the scale backs off; 0 when every further one does.
    pub fn hysteresis_left(self) -> u32 {
        self.hysteresis_left
    }

    /// What takes the scale out of a gradient: `1 / scale`, computed in f64 and rounded to f32.
    pub fn inv_scale(self) -> f32 {
        (1.0 / f64::from(self.scale)) as f32
    }
}
