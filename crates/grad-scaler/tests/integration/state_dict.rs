//! Saved scalers: every setting comes back, and what is no saved scaler is refused by key.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle_core::Device;
use grad_scaler::{Error, GradScaler, Refill, ScaleState, ScalerConfig, StateDict, StateValue, Strictness};
use proptest::prelude::*;

fn scaler(config: ScalerConfig) -> GradScaler {
    GradScaler::new(config, &Device::Cpu).unwrap()
}

fn rich() -> ScalerConfig {
    ScalerConfig {
        init_scale: 1000.0,
        growth_factor: 3.0,
        backoff_factor: 0.25,
        growth_interval: 7,
        min_scale: Some(0.5),
        max_scale: Some(1e9),
        hysteresis: 3,
        refill: Refill::OnCleanStep,
        is_static: false,
    }
}

#[test]
fn pytorchs_keys_are_there() {
    let saved = scaler(ScalerConfig::default()).state_dict().unwrap();
    let float = StateValue::Float;
    assert_eq!(saved["scale"], float(65536.0));
    assert_eq!(saved["growth_factor"], float(2.0));
    assert_eq!(saved["backoff_factor"], float(0.5));
    assert_eq!(saved["growth_interval"], StateValue::Int(2000));
    assert_eq!(saved["_growth_tracker"], StateValue::Int(0));
}

#[test]
fn every_setting_survives_a_file() {
    let fixed = ScalerConfig { init_scale: 256.0, is_static: true, ..ScalerConfig::default() };
    for config in [ScalerConfig::default(), ScalerConfig::recommended(), rich(), fixed] {
        let json = serde_json::to_string(&scaler(config).state_dict().unwrap()).unwrap();
        let saved: StateDict = serde_json::from_str(&json).unwrap();
        let mut other = scaler(ScalerConfig {
            init_scale: 2.0,
            growth_factor: 5.0,
            backoff_factor: 0.125,
            growth_interval: 3,
            ..Default::default()
        });
        other.load_state_dict(&saved).unwrap();
        assert_eq!(other.config(), Some(&config), "{json}");
        assert_eq!(other.state().unwrap(), Some(ScaleState::new(&config)));
    }
}

fn refused(saved: &StateDict) -> Error {
    let mut scaler = scaler(ScalerConfig::default());
    let before = (scaler.config().cloned(), scaler.state().unwrap());
    let error = scaler.load_state_dict(saved).unwrap_err();
    assert_eq!(
        (scaler.config().cloned(), scaler.state().unwrap()),
        before,
        "a refused state changed the scaler"
    );
    error
}

#[test]
fn missing_extra_and_ill_typed_keys_are_refused_by_name() {
    let saved = scaler(rich()).state_dict().unwrap();
    for key in saved.keys() {
        let mut without = saved.clone();
        without.remove(key);
        assert!(matches!(refused(&without), Error::MissingKey { key: k } if k == key), "{key}");

        let wrong =
            if key == "hysteresis_refill" { StateValue::Int(1) } else { StateValue::Text("?".into()) };
        let mut ill = saved.clone();
        ill.insert(key.clone(), wrong);
        assert!(matches!(refused(&ill), Error::IllTypedValue { key: k, .. } if k == key), "{key}");
    }
    let mut more = saved.clone();
    more.insert("extra".into(), StateValue::Int(1));
    assert!(matches!(refused(&more), Error::UnexpectedKey { key } if key == "extra"));
    assert!(matches!(refused(&StateDict::new()), Error::EmptyState));
}

#[test]
fn values_out_of_range_are_refused_by_name() {
    let bad = [
        ("scale", StateValue::Float(0.0)),
        ("scale", StateValue::Float(-1.0)),
        ("scale", StateValue::Float(f64::NAN)),
        ("growth_factor", StateValue::Float(1.0)),
        ("backoff_factor", StateValue::Float(1.0)),
        ("growth_interval", StateValue::Int(0)),
        ("_growth_tracker", StateValue::Int(7)),
        ("_hysteresis_left", StateValue::Int(4)),
    ];
    for (key, value) in bad {
        let mut saved = scaler(rich()).state_dict().unwrap();
        saved.insert(key.into(), value);
        assert!(
            matches!(refused(&saved), Error::InvalidSetting { argument, .. } if argument == key),
            "{key}"
        );
    }
    let mut saved = scaler(rich()).state_dict().unwrap();
    saved.insert("growth_interval".into(), StateValue::Int(-1));
    assert!(matches!(refused(&saved), Error::IllTypedValue { key: "growth_interval", .. }));
}

/// What `torch.amp.GradScaler.state_dict` gives, as JSON.
const PYTORCHS: &str = r#"{"scale": 1024.0, "growth_factor": 4.0, "backoff_factor": 0.25, "growth_interval": 5,
    "_growth_tracker": 3}"#;

#[test]
fn pytorchs_state_is_taken_and_leaves_other_settings_as_they_are() {
    let saved: StateDict = serde_json::from_str(PYTORCHS).unwrap();
    let mut loaded = scaler(rich());
    let report = loaded.load_state_dict_with(&saved, Strictness::Strict).unwrap();
    let config = loaded.config().unwrap();
    assert_eq!((config.growth_factor, config.backoff_factor, config.growth_interval), (4.0, 0.25, 5));
    assert_eq!((config.init_scale, config.min_scale, config.max_scale), (1000.0, Some(0.5), Some(1e9)));
    assert_eq!((config.hysteresis, config.refill), (3, Refill::OnCleanStep));
    let state = loaded.state().unwrap().unwrap();
    assert_eq!((state.scale, state.growth_tracker, state.hysteresis_left), (1024.0, 3, 3));
    assert!(report.missing.contains(&"min_scale".to_string()) && report.unused.is_empty());

    for key in saved.keys() {
        let mut without = saved.clone();
        without.remove(key);
        assert!(matches!(refused(&without), Error::MissingKey { key: k } if k == key), "{key}");
    }
    let mut more = saved.clone();
    more.insert("_enabled".into(), StateValue::Bool(true));
    assert!(matches!(refused(&more), Error::UnexpectedKey { key } if key == "_enabled"));
    let mut late = saved;
    late.insert("_growth_tracker".into(), StateValue::Int(5));
    assert!(matches!(refused(&late), Error::InvalidSetting { argument: "_growth_tracker", .. }));
}

#[test]
fn a_static_scale_is_a_setting_that_pytorchs_state_does_not_move() {
    let saved: StateDict = serde_json::from_str(PYTORCHS).unwrap();
    let mut fixed = scaler(ScalerConfig { init_scale: 128.0, is_static: true, ..ScalerConfig::default() });
    let report = fixed.load_state_dict_with(&saved, Strictness::Strict).unwrap();
    assert_eq!((fixed.get_scale().unwrap(), report.unused), (128.0, vec!["scale".to_string()]));
}

#[test]
fn a_lenient_load_keeps_what_is_missing_and_names_both_sides() {
    let mut saved = scaler(rich()).state_dict().unwrap();
    saved.retain(|key, _| ["scale", "min_scale", "growth_interval"].contains(&key.as_str()));
    saved.insert("_per_tensor".into(), StateValue::Null);
    assert!(matches!(refused(&saved), Error::MissingKey { .. }));
    let mut loaded = scaler(ScalerConfig {
        init_scale: 64.0,
        growth_factor: 3.0,
        backoff_factor: 0.125,
        growth_interval: 100,
        ..Default::default()
    });
    let report = loaded.load_state_dict_with(&saved, Strictness::Lenient).unwrap();
    let config = loaded.config().unwrap();
    assert_eq!((config.min_scale, config.growth_interval, config.backoff_factor), (Some(0.5), 7, 0.125));
    assert_eq!(loaded.get_scale().unwrap(), 1000.0);
    assert_eq!(report.unused, ["_per_tensor"]);
    assert_eq!(report.missing.len(), 12 - 3);
    // Nothing at all is nothing to load, and no error where lenient.
    let before = (loaded.config().cloned(), loaded.state().unwrap());
    loaded.load_state_dict_with(&StateDict::new(), Strictness::Lenient).unwrap();
    assert_eq!((loaded.config().cloned(), loaded.state().unwrap()), before);
    // What is there has to be right.
    saved.insert("scale".into(), StateValue::Text("?".into()));
    let error = loaded.load_state_dict_with(&saved, Strictness::Lenient).unwrap_err();
    assert!(matches!(error, Error::IllTypedValue { key: "scale", .. }));
}

#[test]
fn a_disabled_scaler_ignores_what_it_is_given() {
    let mut scaler = GradScaler::disabled();
    scaler.load_state_dict(&StateDict::new()).unwrap();
    assert!(!scaler.is_enabled());
}

proptest! {
    /// At any point of any run, a scaler that was saved and loaded goes on as the one that was not.
    #[test]
    fn a_loaded_state_goes_on_as_the_saved_one(
        before in proptest::collection::vec(any::<bool>(), 0..40),
        after in proptest::collection::vec(any::<bool>(), 0..40),
    ) {
        let config = rich();
        let run = |state: ScaleState, overflows: &[bool]| {
            overflows.iter().fold(state, |state, &overflow| state.update(overflow, &config))
        };
        // The tracker and hysteresis of a saved state are reached by updates, as a scaler's are.
        let reached = run(ScaleState::new(&config), &before);
        let mut saved = scaler(config).state_dict().unwrap();
        saved.insert("scale".into(), StateValue::Float(f64::from(reached.scale)));
        saved.insert("_growth_tracker".into(), StateValue::Int(i64::from(reached.growth_tracker)));
        saved.insert("_hysteresis_left".into(), StateValue::Int(i64::from(reached.hysteresis_left)));
        let mut loaded = scaler(ScalerConfig::default());
        loaded.load_state_dict(&saved).unwrap();
        prop_assert_eq!(loaded.state().unwrap(), Some(reached));
        prop_assert_eq!(run(loaded.state().unwrap().unwrap(), &after), run(reached, &after));
    }
}
