//! How the scale moves, as settings that were checked when they were made.

use crate::{Error, Result};

/// When a used-up hysteresis is filled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Refill {
    /// When a growth interval ends without an overflow (Megatron-LM).
    #[default]
    OnGrowth,
    /// At every step without an overflow (apex).
    OnCleanStep,
}

/// The settings of a scaler. Every value of this type is valid: constructors check.
///
/// The default is PyTorch's. [`recommended`](Self::recommended) adds a floor of 1, without which a run of overflows
/// takes the scale to 0, from where it never comes back.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalerConfig {
    init_scale: f64,
    growth_factor: f64,
    backoff_factor: f64,
    growth_interval: u32,
    min_scale: Option<f64>,
    max_scale: Option<f64>,
    hysteresis: u32,
    refill: Refill,
    fixed: bool,
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
            fixed: false,
        }
    }
}

impl ScalerConfig {
    /// Settings that start at `init_scale`, multiply by `backoff_factor` after an overflow and by `growth_factor` after
    /// `growth_interval` steps in a row without one.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`] unless `init_scale` is positive and finite in f32, `1 < growth_factor < ∞`,
    /// `0 < backoff_factor < 1`, and `1 <= growth_interval < 2^31`.
    pub fn new(
        init_scale: f64,
        growth_factor: f64,
        backoff_factor: f64,
        growth_interval: u32,
    ) -> Result<Self> {
        check_scale("init_scale", init_scale)?;
        check(
            "growth_factor",
            "a finite number above 1",
            growth_factor,
            growth_factor.is_finite() && growth_factor > 1.0,
        )?;
        check(
            "backoff_factor",
            "a number above 0 and below 1",
            backoff_factor,
            backoff_factor > 0.0 && backoff_factor < 1.0,
        )?;
        let fits = growth_interval > 0 && i32::try_from(growth_interval).is_ok();
        check("growth_interval", "1 to 2147483647 steps", f64::from(growth_interval), fits)?;
        Ok(Self { init_scale, growth_factor, backoff_factor, growth_interval, ..Self::default() })
    }

    /// The default with a floor: the scale stays at 1 or above.
    pub fn recommended() -> Self {
        Self { min_scale: Some(1.0), ..Self::default() }
    }

    /// Backs off no further than `min_scale`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`] unless it is positive, finite, and at most the initial and the maximal scale.
    pub fn with_min_scale(self, min_scale: f64) -> Result<Self> {
        check_scale("min_scale", min_scale)?;
        let top = self.max_scale.unwrap_or(f64::INFINITY).min(self.init_scale);
        check("min_scale", "at most init_scale and max_scale", min_scale, min_scale <= top)?;
        Ok(Self { min_scale: Some(min_scale), ..self })
    }

    /// Grows no further than `max_scale`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`] unless it is positive, finite, and at least the initial and the minimal scale.
    pub fn with_max_scale(self, max_scale: f64) -> Result<Self> {
        check_scale("max_scale", max_scale)?;
        let bottom = self.min_scale.unwrap_or(0.0).max(self.init_scale);
        check("max_scale", "at least init_scale and min_scale", max_scale, max_scale >= bottom)?;
        Ok(Self { max_scale: Some(max_scale), ..self })
    }

    /// Backs off only at the `hysteresis`-th overflow since the last refill. 1 backs off at every one, as PyTorch does.
    /// Every overflow skips its step all the same.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`] for 0.
    pub fn with_hysteresis(self, hysteresis: u32, refill: Refill) -> Result<Self> {
        check_count("hysteresis", hysteresis)?;
        Ok(Self { hysteresis, refill, ..self })
    }

    /// Keeps the scale at `scale` for good. Steps with an overflow are still skipped.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`] unless it is positive, finite in f32, and between the minimal and the maximal scale.
    pub fn with_static_scale(self, scale: f64) -> Result<Self> {
        check_scale("static scale", scale)?;
        let range = self.min_scale.unwrap_or(0.0)..=self.max_scale.unwrap_or(f64::INFINITY);
        check("static scale", "between min_scale and max_scale", scale, range.contains(&scale))?;
        Ok(Self { init_scale: scale, fixed: true, ..self })
    }

    /// The scale of the first step.
    pub fn init_scale(&self) -> f64 {
        self.init_scale
    }

    /// What the scale is multiplied by when it grows.
    pub fn growth_factor(&self) -> f64 {
        self.growth_factor
    }

    /// What the scale is multiplied by when it backs off.
    pub fn backoff_factor(&self) -> f64 {
        self.backoff_factor
    }

    /// Steps in a row without an overflow before the scale grows.
    pub fn growth_interval(&self) -> u32 {
        self.growth_interval
    }

    /// The floor, if there is one.
    pub fn min_scale(&self) -> Option<f64> {
        self.min_scale
    }

    /// The ceiling, if there is one.
    pub fn max_scale(&self) -> Option<f64> {
        self.max_scale
    }

    /// Overflows per back-off.
    pub fn hysteresis(&self) -> u32 {
        self.hysteresis
    }

    /// When the hysteresis is filled again.
    pub fn refill(&self) -> Refill {
        self.refill
    }

    /// Whether the scale never moves.
    pub fn is_static(&self) -> bool {
        self.fixed
    }
}

fn check(setting: &'static str, allowed: &'static str, got: f64, holds: bool) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::InvalidSetting { setting, allowed, got }) }
}

/// The scale is kept in f32, so that it must be positive and finite there.
pub(crate) fn check_scale(setting: &'static str, scale: f64) -> Result<()> {
    let kept = scale as f32;
    check(setting, "positive and finite as f32", scale, kept.is_finite() && kept > 0.0)
}

pub(crate) fn check_count(setting: &'static str, count: u32) -> Result<()> {
    check(setting, "1 or more", f64::from(count), count > 0)
}
