//! The scaler on a CUDA device against the same on the CPU.
#![cfg(feature = "cuda")]

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::SGD;
use grad_scaler::{
    DiagnosticsConfig, Error, GradScaler, Refill, Scaled, ScalerConfig, StepCounts, StepOutcome,
};

use crate::gpu::gpu;

type Outcome = Result<(), Box<dyn std::error::Error>>;

struct Run {
    weight: Var,
    optimizer: Scaled<SGD>,
    scaler: GradScaler,
}

impl Run {
    fn new(device: &Device, config: ScalerConfig) -> Result<Self, Error> {
        let weight = Var::ones(4, DType::F32, device)?;
        let optimizer = Scaled::new([("weight", weight.clone())], 0.125)?;
        Ok(Self { weight, optimizer, scaler: GradScaler::new(config, device)? })
    }

    /// A step whose gradient is `grad` times the scale, all over.
    fn step(&mut self, grad: f32) -> Result<StepOutcome, Box<dyn std::error::Error>> {
        let factor = Tensor::new(&[grad; 4], self.weight.device())?;
        let loss = (self.weight.as_tensor() * factor)?.sum_all()?;
        let grads: GradStore = self.scaler.scale(&loss)?.backward()?;
        let outcome = self.scaler.step(&mut self.optimizer, &grads)?;
        self.scaler.update()?;
        Ok(outcome)
    }
}

#[test]
fn the_scale_moves_as_on_the_cpu() -> Outcome {
    let Some(gpu) = gpu() else { return Ok(()) };
    let base = || ScalerConfig { init_scale: 1024.0, growth_interval: 2, ..Default::default() };
    let configs = [
        base(),
        ScalerConfig { min_scale: Some(512.0), max_scale: Some(2048.0), ..base() },
        ScalerConfig { hysteresis: 2, refill: Refill::OnGrowth, ..base() },
        ScalerConfig { hysteresis: 2, refill: Refill::OnCleanStep, ..base() },
        ScalerConfig { init_scale: 64.0, is_static: true, ..base() },
    ];
    for config in configs {
        let (mut here, mut there) = (Run::new(&Device::Cpu, config)?, Run::new(&gpu, config)?);
        for overflows in [0u32, 1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 0] {
            let grad = if overflows == 1 { f32::INFINITY } else { 0.25 };
            assert_eq!(here.step(grad)?, there.step(grad)?);
            assert_eq!(here.scaler.state()?, there.scaler.state()?);
            assert_eq!(here.weight.to_vec1::<f32>()?, there.weight.to_vec1::<f32>()?);
        }
        assert_eq!(there.scaler.steps()?, StepCounts { applied: 10, skipped: 5, pending: 0 });
        assert_eq!(here.scaler.state_dict()?, there.scaler.state_dict()?);
        there.scaler.load_state_dict(&here.scaler.state_dict()?)?;
        assert_eq!(here.scaler.state()?, there.scaler.state()?);
    }
    Ok(())
}

#[test]
fn diagnostics_name_what_overflowed() -> Outcome {
    let Some(gpu) = gpu() else { return Ok(()) };
    let mut run = Run::new(&gpu, ScalerConfig::default())?;
    run.scaler = run.scaler.with_diagnostics(DiagnosticsConfig::default())?;
    assert_eq!(run.step(0.0)?, StepOutcome::Applied);
    let zero = run.scaler.diagnostics().map(|seen| seen.underflow().zero);
    assert_eq!(zero, Some(1.0));
    let overflowed = vec!["weight".to_string()];
    assert_eq!(run.step(f32::NAN)?, StepOutcome::Skipped { overflowed });
    let scales = run.scaler.diagnostics().map(|seen| seen.history().map(|e| e.scale).collect::<Vec<_>>());
    assert_eq!(scales, Some(vec![65536.0, 65536.0]));
    assert_eq!(run.scaler.get_scale()?, 32768.0);
    Ok(())
}

#[test]
fn gradients_on_another_device_are_refused() -> Outcome {
    let Some(gpu) = gpu() else { return Ok(()) };
    let mut run = Run::new(&Device::Cpu, ScalerConfig::default())?;
    run.scaler = GradScaler::new(ScalerConfig::default(), &gpu)?;
    let mut grads = GradStore::default();
    grads.insert(&run.weight, run.weight.zeros_like()?);
    let error = run.scaler.step(&mut run.optimizer, &grads).unwrap_err();
    assert!(matches!(error, Error::UnsupportedDevice { op: "step", .. }), "{error}");
    Ok(())
}
