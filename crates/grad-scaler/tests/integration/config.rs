//! Settings that are refused, and what the other ones do to the scale.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle_core::Device;
use grad_scaler::{DiagnosticsConfig, Error, GradScaler, Refill, ScaleState, ScalerConfig};
use proptest::prelude::*;

fn refused(config: ScalerConfig, expected: &str) {
    match GradScaler::new(config, &Device::Cpu) {
        Err(Error::InvalidSetting { argument, expected: allowed, .. }) => {
            assert_eq!(argument, expected);
            assert!(!allowed.is_empty());
        }
        other => panic!("{expected}: {other:?}"),
    }
}

#[test]
fn settings_outside_their_range_are_refused_by_name() {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1.0];
    // Finite in f64, but infinite or zero in f32, in which the scale is kept.
    for scale in odd.into_iter().chain([1e39, 1e-60]) {
        refused(ScalerConfig { init_scale: scale, ..Default::default() }, "init_scale");
        refused(ScalerConfig { min_scale: Some(scale), ..Default::default() }, "min_scale");
        refused(ScalerConfig { max_scale: Some(scale), ..Default::default() }, "max_scale");
        refused(ScalerConfig { init_scale: scale, is_static: true, ..Default::default() }, "init_scale");
    }
    for factor in odd.into_iter().chain([1.0, 0.5]) {
        refused(ScalerConfig { growth_factor: factor, ..Default::default() }, "growth_factor");
    }
    for factor in odd.into_iter().chain([1.0, 2.0]) {
        refused(ScalerConfig { backoff_factor: factor, ..Default::default() }, "backoff_factor");
    }
    for interval in [0, 1 << 31, u32::MAX] {
        refused(ScalerConfig { growth_interval: interval, ..Default::default() }, "growth_interval");
    }
    refused(ScalerConfig { hysteresis: 0, ..Default::default() }, "hysteresis");
    refused(ScalerConfig { min_scale: Some(65537.0), ..Default::default() }, "min_scale");
    refused(ScalerConfig { max_scale: Some(65535.0), ..Default::default() }, "max_scale");
    refused(ScalerConfig { init_scale: 0.5, is_static: true, ..ScalerConfig::recommended() }, "min_scale");
    for (config, expected) in [
        (DiagnosticsConfig { history: 0, ..Default::default() }, "history"),
        (DiagnosticsConfig { patience: 0, ..Default::default() }, "patience"),
    ] {
        let error = GradScaler::disabled().with_diagnostics(config).unwrap_err();
        assert!(matches!(error, Error::InvalidSetting { argument, .. } if argument == expected), "{error}");
    }
}

#[test]
fn the_message_says_what_came_and_what_is_allowed() {
    let config = ScalerConfig { growth_factor: 1.0, ..Default::default() };
    let error = GradScaler::new(config, &Device::Cpu).unwrap_err();
    assert_eq!(error.to_string(), "ScalerConfig: growth_factor is 1; expected a finite number above 1");
}

#[test]
fn the_default_is_pytorchs_and_collapses_where_the_recommended_has_a_floor() {
    let (default, recommended) = (ScalerConfig::default(), ScalerConfig::recommended());
    assert_eq!((default.init_scale, default.growth_factor), (65536.0, 2.0));
    assert_eq!((default.backoff_factor, default.growth_interval), (0.5, 2000));
    let after = |config: &ScalerConfig| (0..400).fold(ScaleState::new(config), |s, _| s.update(true, config));
    assert_eq!(after(&default).scale, 0.0);
    assert_eq!(after(&recommended).scale, 1.0);
}

#[test]
fn bounds_hold_where_a_factor_steps_over_them() {
    let config = ScalerConfig {
        init_scale: 100.0,
        growth_factor: 3.0,
        backoff_factor: 0.3,
        growth_interval: 1,
        min_scale: Some(50.0),
        max_scale: Some(200.0),
        ..Default::default()
    };
    let state = ScaleState::new(&config);
    assert_eq!(state.update(true, &config).scale, 50.0);
    assert_eq!(state.update(false, &config).scale, 200.0);
    assert_eq!(state.update(false, &config).update(false, &config).scale, 200.0);
}

#[test]
fn a_static_scale_never_moves() {
    let config = ScalerConfig { init_scale: 128.0, is_static: true, ..ScalerConfig::default() };
    let start = ScaleState::new(&config);
    assert_eq!(start.scale, 128.0);
    assert_eq!((0..5000).fold(start, |s, i| s.update(i % 7 == 0, &config)), start);
}

/// The scales after each of `overflows`, from 1024 with an interval of 3.
fn scales(hysteresis: u32, refill: Refill, overflows: &[bool]) -> Vec<f32> {
    let config =
        ScalerConfig { init_scale: 1024.0, growth_interval: 3, hysteresis, refill, ..Default::default() };
    let mut state = ScaleState::new(&config);
    let step = |&overflow: &bool| {
        state = state.update(overflow, &config);
        state.scale
    };
    overflows.iter().map(step).collect()
}

const X: bool = true;
const O: bool = false;

#[test]
fn hysteresis_forgives_overflows_until_it_is_used_up() {
    // The second overflow backs off, and so does each one after it until a refill.
    let both = [1024.0, 512.0, 256.0];
    assert_eq!(scales(2, Refill::OnGrowth, &[X, X, X]), both);
    assert_eq!(scales(2, Refill::OnCleanStep, &[X, X, X]), both);
    // A clean step in between refills in one rule, and only a whole interval in the other.
    assert_eq!(scales(2, Refill::OnCleanStep, &[X, O, X, O, X]), [1024.0; 5]);
    assert_eq!(scales(2, Refill::OnGrowth, &[X, O, X, O, X]), [1024.0, 1024.0, 512.0, 512.0, 256.0]);
    let grown = [1024.0, 1024.0, 1024.0, 2048.0, 2048.0, 1024.0];
    assert_eq!(scales(2, Refill::OnGrowth, &[X, O, O, O, X, X]), grown);
}

proptest! {
    /// Whatever happens, the scale stays finite, positive and inside its bounds.
    #[test]
    fn a_bounded_scale_stays_bounded(
        overflows in proptest::collection::vec(any::<bool>(), 0..300),
        growth in 1.001f64..1e6, backoff in 1e-6f64..0.999, interval in 1u32..6, hysteresis in 1u32..4,
    ) {
        let config = ScalerConfig {
            init_scale: 1024.0,
            growth_factor: growth,
            backoff_factor: backoff,
            growth_interval: interval,
            min_scale: Some(2.0),
            max_scale: Some(1e30),
            hysteresis,
            refill: Refill::OnCleanStep,
            is_static: false,
        };
        let mut state = ScaleState::new(&config);
        for overflow in overflows {
            state = state.update(overflow, &config);
            prop_assert!((2.0..=1e30).contains(&state.scale));
            prop_assert!((0..interval as i32).contains(&state.growth_tracker));
        }
    }
}
