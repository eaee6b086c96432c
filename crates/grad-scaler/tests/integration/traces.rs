//! The state machine against sequences recorded from PyTorch's `_amp_update_scale_`, to the bit.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use grad_scaler::{ScaleState, ScalerConfig};
use serde_json::Value;

#[test]
fn every_recorded_trace_is_followed_to_the_bit() {
    let recorded: Value = serde_json::from_str(include_str!("../data/grad_scaler_traces.json")).unwrap();
    let traces = recorded["traces"].as_array().unwrap();
    assert_eq!(traces.len(), 60);
    for (number, trace) in traces.iter().enumerate() {
        let setting = |name: &str| trace[name].as_f64().unwrap();
        let interval = trace["growth_interval"].as_u64().unwrap() as u32;
        let config = ScalerConfig {
            init_scale: setting("init_scale"),
            growth_factor: setting("growth_factor"),
            backoff_factor: setting("backoff_factor"),
            growth_interval: interval,
            ..Default::default()
        };
        let mut state = ScaleState::new(&config);
        for (step, row) in trace["steps"].as_array().unwrap().iter().enumerate() {
            state = state.update(row[0].as_u64() == Some(1), &config);
            let expected = (row[1].as_u64().unwrap() as u32, row[2].as_i64().unwrap() as i32);
            assert_eq!(
                (state.scale.to_bits(), state.growth_tracker),
                expected,
                "trace {number}, step {step}"
            );
        }
    }
}
