//! What the settings of a scaler may be.

use crate::{Error, Result, ScalerConfig};

/// # Errors
///
/// [`Error::InvalidSetting`] for the first field that is outside its range.
pub(crate) fn check_config(config: &ScalerConfig) -> Result<()> {
    let check =
        |argument, expected, got, holds| check_setting("ScalerConfig", argument, expected, got, holds);
    let init = config.init_scale;
    check_scale("init_scale", init)?;
    let growth = config.growth_factor;
    check("growth_factor", "a finite number above 1", growth, growth.is_finite() && growth > 1.0)?;
    let backoff = config.backoff_factor;
    check("backoff_factor", "a number above 0 and below 1", backoff, backoff > 0.0 && backoff < 1.0)?;
    let interval = config.growth_interval;
    let fits = interval > 0 && i32::try_from(interval).is_ok();
    check("growth_interval", "1 to 2147483647 steps", f64::from(interval), fits)?;
    if let Some(floor) = config.min_scale {
        check_scale("min_scale", floor)?;
        check("min_scale", "at most init_scale", floor, floor <= init)?;
    }
    if let Some(ceiling) = config.max_scale {
        check_scale("max_scale", ceiling)?;
        check("max_scale", "at least init_scale", ceiling, ceiling >= init)?;
    }
    check("hysteresis", "1 or more", f64::from(config.hysteresis), config.hysteresis > 0)
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
    check_setting(
        "ScalerConfig",
        argument,
        "positive and finite as f32",
        scale,
        kept.is_finite() && kept > 0.0,
    )
}
