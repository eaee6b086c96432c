//! Settings that are refused, and what the other ones do to the scale.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use grad_scaler::{Error, Refill, ScaleState, ScalerConfig};
use proptest::prelude::*;

fn refused(config: Result<ScalerConfig, Error>, expected: &str) {
    match config {
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
        refused(ScalerConfig::new(scale, 2.0, 0.5, 2000), "init_scale");
        refused(ScalerConfig::default().with_min_scale(scale), "min_scale");
        refused(ScalerConfig::default().with_max_scale(scale), "max_scale");
        refused(ScalerConfig::default().with_static_scale(scale), "static scale");
    }
    for factor in odd.into_iter().chain([1.0, 0.5]) {
        refused(ScalerConfig::new(65536.0, factor, 0.5, 2000), "growth_factor");
    }
    for factor in odd.into_iter().chain([1.0, 2.0]) {
        refused(ScalerConfig::new(65536.0, 2.0, factor, 2000), "backoff_factor");
    }
    for interval in [0, 1 << 31, u32::MAX] {
        refused(ScalerConfig::new(65536.0, 2.0, 0.5, interval), "growth_interval");
    }
    refused(ScalerConfig::default().with_hysteresis(0, Refill::OnGrowth), "hysteresis");
    refused(ScalerConfig::default().with_min_scale(65537.0), "min_scale");
    refused(ScalerConfig::default().with_max_scale(65535.0), "max_scale");
    refused(ScalerConfig::recommended().with_static_scale(0.5), "static scale");
}

#[test]
fn the_message_says_what_came_and_what_is_allowed() {
    let error = ScalerConfig::new(65536.0, 1.0, 0.5, 2000).unwrap_err();
    assert_eq!(error.to_string(), "ScalerConfig: growth_factor is 1, expected a finite number above 1");
}

#[test]
fn the_default_is_pytorchs_and_collapses_where_the_recommended_has_a_floor() {
    let (default, recommended) = (ScalerConfig::default(), ScalerConfig::recommended());
    assert_eq!(default, ScalerConfig::new(65536.0, 2.0, 0.5, 2000).unwrap());
    let after = |config: &ScalerConfig| (0..400).fold(ScaleState::new(config), |s, _| s.update(true, config));
    assert_eq!(after(&default).scale, 0.0);
    assert_eq!(after(&recommended).scale, 1.0);
}

#[test]
fn bounds_hold_where_a_factor_steps_over_them() {
    let config = ScalerConfig::new(100.0, 3.0, 0.3, 1).unwrap();
    let config = config.with_min_scale(50.0).unwrap().with_max_scale(200.0).unwrap();
    let state = ScaleState::new(&config);
    assert_eq!(state.update(true, &config).scale, 50.0);
    assert_eq!(state.update(false, &config).scale, 200.0);
    assert_eq!(state.update(false, &config).update(false, &config).scale, 200.0);
}

#[test]
fn a_static_scale_never_moves() {
    let config = ScalerConfig::default().with_static_scale(128.0).unwrap();
    let start = ScaleState::new(&config);
    assert_eq!(start.scale, 128.0);
    assert_eq!((0..5000).fold(start, |s, i| s.update(i % 7 == 0, &config)), start);
}

/// The scales after each of `overflows`, from 1024 with an interval of 3.
fn scales(hysteresis: u32, refill: Refill, overflows: &[bool]) -> Vec<f32> {
    let config = ScalerConfig::new(1024.0, 2.0, 0.5, 3).unwrap().with_hysteresis(hysteresis, refill).unwrap();
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
        let config = ScalerConfig::new(1024.0, growth, backoff, interval).unwrap();
        let config = config.with_hysteresis(hysteresis, Refill::OnCleanStep).unwrap();
        let config = config.with_min_scale(2.0).unwrap().with_max_scale(1e30).unwrap();
        let mut state = ScaleState::new(&config);
        for overflow in overflows {
            state = state.update(overflow, &config);
            prop_assert!((2.0..=1e30).contains(&state.scale));
            prop_assert!((0..interval as i32).contains(&state.growth_tracker));
        }
    }
}
