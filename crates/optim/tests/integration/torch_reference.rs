//! Optimizers and schedules against PyTorch, recorded by `data/record.py` (torch 2.11.0 on a CPU, plain loops).
//!
//! Each step starts from PyTorch's weights and moments, so that what is compared is the error of one step and not of a
//! history. Numbers may be 4 ULP apart, at the largest magnitude that went into them: PyTorch's vectorised loops contract
//! some products and sums into one rounding and ours round each, which shows where a sum cancels.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use optim::{
    Adam, AdamConfig, AdamW, AdamWConfig, Fused, Momentum, Optimizer, Rule, Schedule, Sgd, SgdConfig,
};
use serde_json::Value;
use std::collections::HashMap;

const MAX_ULPS: f64 = 4.0;

fn reference() -> Value {
    serde_json::from_str(include_str!("../data/torch_reference.json")).unwrap()
}

/// The recorded bits as a tensor of the recorded dtype.
fn tensor(bits: &Value, dtype: DType) -> Tensor {
    let parse = |value: &Value| u64::from_str_radix(value.as_str().unwrap(), 16).unwrap();
    let bits = bits.as_array().unwrap().iter().map(parse);
    if dtype == DType::F32 {
        let values: Vec<f32> = bits.map(|bits| f32::from_bits(bits as u32)).collect();
        Tensor::new(values, &Device::Cpu).unwrap()
    } else {
        let values: Vec<f64> = bits.map(f64::from_bits).collect();
        Tensor::new(values, &Device::Cpu).unwrap()
    }
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// `inputs` are the magnitudes that went into each number.
fn assert_close(what: &str, got: &Tensor, expected: &Tensor, inputs: &[f64]) {
    let epsilon = if got.dtype() == DType::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON };
    for (i, ((got, expected), input)) in values(got).into_iter().zip(values(expected)).zip(inputs).enumerate()
    {
        let ulp = epsilon * expected.abs().max(*input);
        let error = (got - expected).abs();
        assert!(error <= MAX_ULPS * ulp, "{what}[{i}]: {got} instead of {expected}, {} ulp", error / ulp);
    }
}

fn check<R: Rule>(name: &str, rule: &R) {
    let recorded = &reference()["optimizers"][name];
    let beta2 = recorded["settings"]["betas"][1].as_f64().unwrap_or(0.999);
    for (key, dtype) in [("f32", DType::F32), ("f64", DType::F64)] {
        let run = &recorded[key];
        let mut weight = tensor(&run["start"], dtype);
        let mut moments = serde_json::Map::new();
        for (step, now) in run["steps"].as_array().unwrap().iter().enumerate() {
            let var = Var::from_tensor(&weight).unwrap();
            let mut optimizer = Fused::new([("w", var.clone())], rule.clone()).unwrap();
            if step > 0 {
                optimizer.load_state_dict(&state(step, &moments, dtype)).unwrap();
            }
            let mut grads = GradStore::default();
            grads.insert(&var, tensor(&now["grad"], dtype));
            optimizer.step(&grads).unwrap();

            let what = format!("{name} {key} step {step}");
            let expected = tensor(&now["weight"], dtype);
            let before: Vec<f64> = values(&weight).iter().map(|w| w.abs()).collect();
            assert_close(&what, &var, &expected, &before);
            // With L2 decay a moment takes in `grad + decay * weight`, or its square, which may cancel.
            let decay = rule.weight_decay();
            let grad = values(&tensor(&now["grad"], dtype));
            let inputs: Vec<f64> = grad.iter().zip(&before).map(|(g, w)| g.abs().max(decay * w)).collect();
            let squares: Vec<f64> = inputs.iter().map(|x| x * x * (1.0 - beta2)).collect();
            let saved = optimizer.state_dict().unwrap();
            let recorded_moments = now["moments"].as_object().unwrap();
            for (moment, bits) in recorded_moments {
                let inputs = if moment == "exp_avg_sq" { &squares } else { &inputs };
                let got = &saved[&format!("w.{moment}")];
                assert_close(&format!("{what} {moment}"), got, &tensor(bits, dtype), inputs);
            }
            moments = recorded_moments.clone();
            weight = expected;
        }
    }
}

fn state(step: usize, moments: &serde_json::Map<String, Value>, dtype: DType) -> HashMap<String, Tensor> {
    let steps = Tensor::new(step as i64, &Device::Cpu).unwrap();
    let mut state = HashMap::from([("applied_steps".into(), steps.clone()), ("w.step".into(), steps)]);
    for (name, bits) in moments {
        state.insert(format!("w.{name}"), tensor(bits, dtype));
    }
    state
}

#[test]
fn adamw_takes_pytorchs_steps() {
    check("adamw", &AdamWConfig::default());
    let betas = (0.9, 0.95);
    check("adamw_tiny_gpt", &AdamWConfig { betas, weight_decay: 0.1, ..Default::default() });
    let small = AdamWConfig { lr: 1e-2, betas: (0.3, 0.9), eps: 1e-6, weight_decay: 0.0 };
    check("adamw_small_beta1", &small);
}

#[test]
fn adam_takes_pytorchs_steps() {
    check("adam", &AdamConfig::default());
    check("adam_l2", &AdamConfig { lr: 1e-2, weight_decay: 0.1, ..Default::default() });
}

#[test]
fn sgd_takes_pytorchs_steps() {
    let config = |lr, weight_decay, momentum| SgdConfig { lr, momentum, weight_decay };
    check("sgd", &config(0.1, 0.0, Momentum::None));
    check("sgd_decay", &config(0.1, 0.1, Momentum::None));
    check("sgd_momentum", &config(1e-2, 0.0, Momentum::Heavy { momentum: 0.9, dampening: 0.0 }));
    check("sgd_dampening", &config(1e-2, 0.01, Momentum::Heavy { momentum: 0.9, dampening: 0.5 }));
    check("sgd_nesterov", &config(1e-2, 0.01, Momentum::Nesterov { momentum: 0.9 }));
}

/// A whole run, from our own state: the error of 8 steps stays that of a few roundings.
#[test]
fn a_run_of_adamw_and_sgd_stays_beside_pytorchs() {
    fn run<R: Rule>(name: &str, mut optimizer: Fused<R>, var: &Var, dtype: DType) {
        let key = if dtype == DType::F32 { "f32" } else { "f64" };
        let recorded = &reference()["optimizers"][name][key];
        let mut last = tensor(&recorded["start"], dtype);
        for now in recorded["steps"].as_array().unwrap() {
            let mut grads = GradStore::default();
            grads.insert(var, tensor(&now["grad"], dtype));
            optimizer.step(&grads).unwrap();
            last = tensor(&now["weight"], dtype);
        }
        let tolerance = 64.0 * if dtype == DType::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON };
        for (got, expected) in values(var).into_iter().zip(values(&last)) {
            assert!(
                (got - expected).abs() <= tolerance * expected.abs().max(1.0),
                "{name}: {got} {expected}"
            );
        }
    }
    for (key, dtype) in [("f32", DType::F32), ("f64", DType::F64)] {
        let start = |name: &str| {
            let bits = &reference()["optimizers"][name][key]["start"];
            Var::from_tensor(&tensor(bits, dtype)).unwrap()
        };
        let var = start("adamw");
        run("adamw", AdamW::new([("w", var.clone())], AdamWConfig::default()).unwrap(), &var, dtype);
        let var = start("adam");
        run("adam", Adam::new([("w", var.clone())], AdamConfig::default()).unwrap(), &var, dtype);
        let var = start("sgd");
        let config = SgdConfig { lr: 0.1, ..Default::default() };
        run("sgd", Sgd::new([("w", var.clone())], config).unwrap(), &var, dtype);
    }
}

#[test]
fn schedules_follow_pytorchs() {
    let schedules = [
        ("cosine", Schedule::cosine(0.1, 20).unwrap().with_min_lr(1e-4).unwrap()),
        ("step", Schedule::step(0.1, 5, 0.3).unwrap()),
        ("one_cycle", Schedule::one_cycle(0.1, 20).unwrap()),
    ];
    for (name, schedule) in schedules {
        let recorded = reference()["schedules"][name].clone();
        for (step, expected) in recorded.as_array().unwrap().iter().enumerate() {
            let (got, expected) = (schedule.lr(step as u64), expected.as_f64().unwrap());
            // PyTorch multiplies from step to step where ours is closed: 20 roundings.
            assert!(
                (got - expected).abs() <= 20.0 * f64::EPSILON * 0.1,
                "{name} at {step}: {got} {expected}"
            );
        }
    }
}
