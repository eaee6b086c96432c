//! Parameters stored in 16 bits train: what plain 16-bit arithmetic loses arrives.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};
use optim::{AdamW, AdamWConfig, Optimizer, Sgd, SgdConfig, WriteBack};

fn grads_of(var: &Var, value: f64, dtype: DType) -> Result<GradStore> {
    let mut grads = GradStore::default();
    grads.insert(var, Tensor::full(value as f32, var.shape(), &Device::Cpu)?.to_dtype(dtype)?);
    Ok(grads)
}

fn values(var: &Var) -> Vec<f32> {
    var.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Where plain f16 AdamW gives -inf after one step and bf16 does not move at all.
#[test]
fn a_small_gradient_moves_a_16_bit_weight() -> std::result::Result<(), Box<dyn std::error::Error>> {
    for dtype in [DType::F16, DType::BF16] {
        let var = Var::from_tensor(&Tensor::ones((3, 5), dtype, &Device::Cpu)?)?;
        let config = AdamWConfig { lr: 1e-3, weight_decay: 0.0, ..Default::default() };
        let mut optimizer = AdamW::new([("w", var.clone())], config)?;
        for _ in 0..20 {
            optimizer.step(&grads_of(&var, 1e-4, dtype)?)?;
        }
        // Adam moves a weight with a constant gradient by lr a step.
        let expected = 1.0 - 20.0 * 1e-3;
        let half_ulp = if dtype == DType::F16 { 2f32.powi(-12) } else { 2f32.powi(-9) };
        for value in values(&var) {
            assert!((value - expected).abs() <= half_ulp + 1e-5, "{dtype:?}: {value}");
        }
    }
    Ok(())
}

/// Plain 16-bit SGD leaves the weight at 1: each update is below half of its last bit.
#[test]
fn every_write_back_keeps_updates_below_the_last_bit() -> std::result::Result<(), Box<dyn std::error::Error>>
{
    let stochastic = WriteBack::StochasticRounding { seed: 7 };
    for write_back in [WriteBack::MasterWeights, WriteBack::Kahan, stochastic] {
        for dtype in [DType::F16, DType::BF16] {
            let var = Var::from_tensor(&Tensor::ones(256, dtype, &Device::Cpu)?)?;
            let config = SgdConfig { lr: 1e-4, ..Default::default() };
            let mut optimizer = Sgd::new([("w", var.clone())], config)?.with_write_back(write_back)?;
            let grads = grads_of(&var, 1.0, dtype)?;
            for _ in 0..1000 {
                optimizer.step(&grads)?;
            }
            let mean = values(&var).iter().sum::<f32>() / 256.0;
            // Half of the parameter's last bit in bf16; and a compensation of at most 2^-9 is rounded 1000 times, by up
            // to 2^-18 in bf16.
            let drift = if write_back == WriteBack::Kahan { 1000.0 * 2f32.powi(-18) } else { 0.0 };
            assert!((mean - 0.9).abs() <= 2f32.powi(-9) + drift, "{write_back:?} {dtype:?}: {mean}");
        }
    }
    Ok(())
}

#[test]
fn stochastic_rounding_repeats_with_its_seed_and_differs_between_parameters()
-> std::result::Result<(), Box<dyn std::error::Error>> {
    let run = |seed| -> std::result::Result<_, Box<dyn std::error::Error>> {
        let vars = [0, 1].map(|_| Var::ones(64, DType::BF16, &Device::Cpu));
        let [left, right] = vars;
        let (left, right) = (left?, right?);
        let config = SgdConfig { lr: 1e-3, ..Default::default() };
        let mut optimizer = Sgd::new([("left", left.clone()), ("right", right.clone())], config)?
            .with_write_back(WriteBack::StochasticRounding { seed })?;
        for _ in 0..5 {
            let mut grads = grads_of(&left, 1.0, DType::F32)?;
            grads.insert(&right, Tensor::ones(64, DType::F32, &Device::Cpu)?);
            optimizer.step(&grads)?;
        }
        Ok((values(&left), values(&right)))
    };
    assert_eq!(run(1)?, run(1)?);
    assert_ne!(run(1)?, run(2)?);
    let (left, right) = run(1)?;
    assert_ne!(left, right);
    Ok(())
}

/// Loading a checkpoint into the variables must not be undone by masters that do not know of it.
#[test]
fn a_variable_that_was_set_from_outside_is_believed() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let var = Var::from_tensor(&Tensor::ones(4, DType::BF16, &Device::Cpu)?)?;
    let config = SgdConfig { lr: 0.5, ..Default::default() };
    let mut optimizer = Sgd::new([("w", var.clone())], config)?;
    optimizer.step(&grads_of(&var, 1.0, DType::F32)?)?;
    var.set(&Tensor::full(8f32, 4, &Device::Cpu)?.to_dtype(DType::BF16)?)?;
    optimizer.step(&grads_of(&var, 1.0, DType::F32)?)?;
    assert_eq!(values(&var), [7.5; 4]);
    Ok(())
}
