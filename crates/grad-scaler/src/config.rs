//! How the scale moves, as settings that were checked when they were made.

use crate::{Error, Refill, Result, ScaleSettings};
use std::ops::Deref;

/// The settings of a scaler, which are read as its fields. Every value of this type is valid: constructors check.
///
/// The default is PyTorch's. [`recommended`](Self::recommended) adds a floor of 1, without which a run of overflows
/// takes the scale to 0, from where it never comes back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScalerConfig(ScaleSettings);

impl Deref for ScalerConfig {
    type Target = ScaleSettings;

    fn deref(&self) -> &ScaleSettings {
        &self.0
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
        let settings = ScaleSettings {
            init_scale,
            growth_factor,
            backoff_factor,
            growth_interval,
            ..Default::default()
        };
        Ok(Self(settings))
    }

    /// The default with a floor: the scale stays at 1 or above.
    pub fn recommended() -> Self {
        Self(ScaleSettings { min_scale: Some(1.0), ..ScaleSettings::default() })
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
        Ok(Self(ScaleSettings { min_scale: Some(min_scale), ..self.0 }))
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
        Ok(Self(ScaleSettings { max_scale: Some(max_scale), ..self.0 }))
    }

    /// Backs off only at the `hysteresis`-th overflow since the last refill. 1 backs off at every one, as PyTorch does.
    /// Every overflow skips its step all the same.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`] for 0.
    pub fn with_hysteresis(self, hysteresis: u32, refill: Refill) -> Result<Self> {
        check("hysteresis", "1 or more", f64::from(hysteresis), hysteresis > 0)?;
        Ok(Self(ScaleSettings { hysteresis, refill, ..self.0 }))
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
        Ok(Self(ScaleSettings { init_scale: scale, is_static: true, ..self.0 }))
    }
}

fn check(argument: &'static str, expected: &'static str, got: f64, holds: bool) -> Result<()> {
    check_setting("ScalerConfig", argument, expected, got, holds)
}

/// `Ok` where `holds`.
pub(crate) fn check_setting(
    op: &'static str,
    argument: &'static str,
    expected: &'static str,
    got: f64,
    holds: bool,
) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::InvalidSetting { op, argument, expected, got }) }
}

/// The scale is kept in f32, so that it must be positive and finite there.
pub(crate) fn check_scale(argument: &'static str, scale: f64) -> Result<()> {
    let kept = scale as f32;
    check(argument, "positive and finite as f32", scale, kept.is_finite() && kept > 0.0)
}
