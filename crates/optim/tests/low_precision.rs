//! Parameters stored in 16 bits train: what plain 16-bit arithmetic loses arrives.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};
use optim::{AdamW, AdamWConfig, Optimizer, StepOutcome};

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
            assert_eq!(optimizer.step(&grads_of(&var, 1e-4, dtype)?)?, StepOutcome::Applied);
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
