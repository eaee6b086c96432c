//! Saved optimizers: a loaded one goes on to the bit as the one that was saved, and what is not its state is refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use optim::{
    AdamW, AdamWConfig, Error, Fused, Lion, LionConfig, Momentum, Optimizer, Rule, SgdConfig, WriteBack,
};
use std::collections::HashMap;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn vars() -> Vec<(&'static str, Var)> {
    let start = Tensor::new(&[[1f32, -2.0], [0.5, 3.0]], &Device::Cpu).unwrap();
    let var = |dtype| Var::from_tensor(&start.to_dtype(dtype).unwrap()).unwrap();
    vec![
        ("f16", var(DType::F16)),
        ("bf16", var(DType::BF16)),
        ("f32", var(DType::F32)),
        ("f64", var(DType::F64)),
    ]
}

fn grads(vars: &[(&str, Var)], step: usize) -> GradStore {
    let mut store = GradStore::default();
    for (i, (_, var)) in vars.iter().enumerate() {
        let grad = Tensor::full(((step * 7 + i) % 5) as f32 * 0.3 - 0.5, var.shape(), &Device::Cpu).unwrap();
        store.insert(var, grad);
    }
    store
}

fn bytes(vars: &[(&str, Var)]) -> Vec<Vec<u8>> {
    let one = |(_, var): &(&str, Var)| {
        let mut bytes = Vec::new();
        var.write_bytes(&mut bytes).unwrap();
        bytes
    };
    vars.iter().map(one).collect()
}

fn goes_on_as_before<R: Rule>(rule: &R, write_back: WriteBack) -> Outcome {
    let make =
        |vars: &[(&'static str, Var)]| Fused::new(vars.to_vec(), rule.clone())?.with_write_back(write_back);
    let straight = vars();
    let mut optimizer = make(&straight)?;
    for step in 0..6 {
        optimizer.step(&grads(&straight, step))?;
    }

    let first = vars();
    let mut optimizer = make(&first)?;
    for step in 0..3 {
        optimizer.step(&grads(&first, step))?;
    }
    let path = std::env::temp_dir().join(format!("optim-{}-{write_back:?}.safetensors", std::process::id()));
    candle_core::safetensors::save(&optimizer.state_dict()?, &path)?;
    let state = candle_core::safetensors::load(&path, &Device::Cpu)?;
    std::fs::remove_file(&path)?;

    let second: Vec<_> =
        first.iter().map(|(name, var)| (*name, Var::from_tensor(&var.copy().unwrap()).unwrap())).collect();
    let mut optimizer = make(&second)?;
    optimizer.load_state_dict(&state)?;
    assert_eq!(optimizer.steps()?.applied, 3);
    for step in 3..6 {
        optimizer.step(&grads(&second, step))?;
    }
    assert_eq!(bytes(&straight), bytes(&second), "{rule:?} {write_back:?}");
    Ok(())
}

#[test]
fn a_loaded_optimizer_goes_on_to_the_bit() -> Outcome {
    let adamw = AdamWConfig { lr: 0.01, ..Default::default() };
    for write_back in [WriteBack::MasterWeights, WriteBack::Kahan, WriteBack::StochasticRounding { seed: 5 }]
    {
        goes_on_as_before(&adamw, write_back)?;
    }
    goes_on_as_before(&LionConfig::default(), WriteBack::MasterWeights)?;
    goes_on_as_before(&SgdConfig::default(), WriteBack::MasterWeights)?;
    let momentum = Momentum::Nesterov { momentum: 0.9 };
    goes_on_as_before(&SgdConfig { momentum, ..Default::default() }, WriteBack::Kahan)
}

#[test]
fn what_is_not_its_state_is_refused_by_key_and_changes_nothing() -> Outcome {
    let vars = vars();
    let mut optimizer = AdamW::new(vars.clone(), AdamWConfig::default())?;
    optimizer.step(&grads(&vars, 1))?;
    let state = optimizer.state_dict()?;
    // Two moments and a step each, masters behind the 16-bit ones, and the count of steps.
    assert_eq!(state.len(), 4 * 3 + 2 + 1);

    let mut refused = |state: &HashMap<String, Tensor>| {
        let before =
            format!("{:?}", optimizer.state_dict().unwrap()["f16.exp_avg"].to_vec2::<f32>().unwrap());
        let error = optimizer.load_state_dict(state).unwrap_err();
        let after = format!("{:?}", optimizer.state_dict().unwrap()["f16.exp_avg"].to_vec2::<f32>().unwrap());
        assert_eq!(before, after);
        error
    };
    for key in state.keys() {
        let mut without = state.clone();
        without.remove(key);
        assert!(matches!(refused(&without), Error::MissingState { key: k } if k == *key), "{key}");
        let mut wrong = state.clone();
        wrong.insert(key.clone(), Tensor::zeros((3, 1), DType::U8, &Device::Cpu)?);
        assert!(matches!(refused(&wrong), Error::StateMismatch { key: k, .. } if k == *key), "{key}");
    }
    let mut more = state.clone();
    more.insert("f16.exp_avg_inf".into(), Tensor::zeros(1, DType::F32, &Device::Cpu)?);
    assert!(matches!(refused(&more), Error::UnexpectedState { key } if key == "f16.exp_avg_inf"));
    let mut negative = state.clone();
    negative.insert("f32.step".into(), Tensor::new(-1i64, &Device::Cpu)?);
    assert!(matches!(refused(&negative), Error::StateMismatch { key, .. } if key == "f32.step"));
    let other = Lion::new(vars.clone(), LionConfig::default())?.state_dict()?;
    assert!(matches!(refused(&other), Error::MissingState { .. }));
    Ok(())
}
