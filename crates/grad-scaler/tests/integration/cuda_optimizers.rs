//! Optimizers on a CUDA device against the same on the CPU, which is held to PyTorch and to the scalar oracles.
#![cfg(feature = "cuda")]

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use grad_scaler::{GradScaler, ScalerConfig, StepCounts, StepOutcome};
use optim::{
    Adam, AdamConfig, AdamW, AdamWConfig, Clip, Error, Fused, Group, Lion, LionConfig, Momentum, Optimizer,
    Rule, ScaledOptimizer, Schedule, Sgd, SgdConfig, WriteBack,
};
use std::collections::HashMap;

use crate::gpu::gpu;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const SIZES: [usize; 4] = [1, 7, 300, 20_000];
const STEPS: usize = 4;

/// The same values at every call: in [-1, 1), different for each `salt`.
fn values(len: usize, salt: usize) -> Vec<f32> {
    let mut state = (salt as u32).wrapping_mul(0x9e37_79b9) | 1;
    let mut one = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / 2f32.powi(31) - 1.0
    };
    (0..len).map(|_| one()).collect()
}

fn parameters(device: &Device, dtype: DType) -> candle_core::Result<Vec<(String, Var)>> {
    let one = |(index, len): (usize, &usize)| {
        let tensor = Tensor::new(values(*len, index), device)?.to_dtype(dtype)?;
        Ok((format!("p{index}"), Var::from_tensor(&tensor)?))
    };
    SIZES.iter().enumerate().map(one).collect()
}

/// Gradients times `scale`, of which the last one ends in `last`.
fn gradients<R: Rule>(of: &Fused<R>, step: usize, scale: f64, last: Option<f32>) -> Result<GradStore, Error> {
    let mut grads = GradStore::default();
    for (index, parameter) in of.parameters().iter().enumerate() {
        let mut grad = values(parameter.var.elem_count(), 100 * (step + 1) + index);
        if let (true, Some(last)) = (index + 1 == SIZES.len(), last) {
            grad[SIZES[index] - 1] = last;
        }
        let grad = (Tensor::new(grad, &Device::Cpu)? * scale)?.to_device(parameter.var.device())?;
        grads.insert(&parameter.var, grad);
    }
    Ok(grads)
}

/// Whether all values are within two units in the last place of their dtype.
fn assert_close(what: &str, cpu: &Tensor, gpu: &Tensor) -> Outcome {
    assert_eq!(cpu.dtype(), gpu.dtype(), "{what}");
    let epsilon = match cpu.dtype() {
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        DType::F32 => 2f64.powi(-23),
        _ => 2f64.powi(-52),
    };
    let flat = |x: &Tensor| x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    for (i, (want, got)) in flat(cpu)?.into_iter().zip(flat(gpu)?).enumerate() {
        // A weight near zero is the difference of larger ones: 2^-10 is what the smallest of those is here.
        let unit = epsilon * want.abs().max(2f64.powi(-10));
        assert!((want - got).abs() <= 2.0 * unit, "{what}[{i}]: {got:e} on the GPU, {want:e} on the CPU");
    }
    Ok(())
}

/// Everything that a state dict and the parameters hold.
fn everything<R: Rule>(of: &Fused<R>) -> Result<Vec<(String, Tensor)>, Error> {
    let mut all: Vec<(String, Tensor)> = of.state_dict()?.into_iter().collect();
    all.extend(of.parameters().iter().map(|p| (p.name.clone(), p.var.as_tensor().clone())));
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(all)
}

fn compare<R: Rule>(
    gpu: &Device,
    dtype: DType,
    make: impl Fn(Vec<(String, Var)>) -> Result<Fused<R>, Error>,
) -> Outcome {
    let mut here = make(parameters(&Device::Cpu, dtype)?)?;
    let mut there = make(parameters(gpu, dtype)?)?;
    for step in 0..STEPS {
        for optimizer in [&mut here, &mut there] {
            let lr = optimizer.learning_rate();
            optimizer.set_learning_rate(lr * 0.9)?;
            let grads = gradients(optimizer, step, 1.0, None)?;
            optimizer.step(&grads)?;
        }
        let (here, there) = (everything(&here)?, everything(&there)?);
        assert_eq!(here.len(), there.len());
        for ((name, cpu), (_, gpu)) in here.iter().zip(&there) {
            assert_close(&format!("{dtype:?} {name} after step {step}"), cpu, gpu)?;
        }
    }
    assert_eq!(there.steps()?.applied, STEPS as u64);
    if let (Some(here), Some(there)) = (here.grad_norm(), there.grad_norm()) {
        assert!((here - there).abs() <= 1e-6 * here, "norm {there} on the GPU, {here} on the CPU");
    }
    Ok(())
}

#[test]
fn every_rule_steps_as_on_the_cpu() -> Outcome {
    let Some(gpu) = gpu() else { return Ok(()) };
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
        compare(&gpu, dtype, |p| AdamW::new(p, AdamWConfig::default()))?;
        compare(&gpu, dtype, |p| Adam::new(p, AdamConfig { weight_decay: 0.1, ..Default::default() }))?;
        compare(&gpu, dtype, |p| Sgd::new(p, SgdConfig::default()))?;
        let nesterov = Momentum::Nesterov { momentum: 0.9 };
        compare(&gpu, dtype, |p| Sgd::new(p, SgdConfig { momentum: nesterov, ..Default::default() }))?;
        compare(&gpu, dtype, |p| Lion::new(p, LionConfig::default()))?;
    }
    Ok(())
}

#[test]
fn groups_clipping_and_write_backs_are_the_cpus() -> Outcome {
    let Some(gpu) = gpu() else { return Ok(()) };
    let adamw = |p| AdamW::new(p, AdamWConfig { lr: 1e-2, ..Default::default() });
    for dtype in [DType::BF16, DType::F16] {
        compare(&gpu, dtype, |p| adamw(p)?.with_write_back(WriteBack::Kahan))?;
        compare(&gpu, dtype, |p| adamw(p)?.with_write_back(WriteBack::StochasticRounding { seed: 7 }))?;
    }
    let group = Group { lr_scale: 0.1, ..Group::no_decay() };
    compare(&gpu, DType::F32, |p| adamw(p)?.with_group(group, |name| name == "p2"))?;
    compare(&gpu, DType::F32, |p| Ok(adamw(p)?.with_clip(Clip::norm(0.5)?)))?;
    compare(&gpu, DType::F32, |p| Ok(adamw(p)?.with_clip(Clip::value(0.25)?)))
}

#[test]
fn a_skipped_step_changes_nothing_and_is_heard_of() -> Outcome {
    let Some(gpu) = gpu() else { return Ok(()) };
    let mut optimizer = AdamW::new(parameters(&gpu, DType::F16)?, AdamWConfig::default())?;
    let mut scaler =
        GradScaler::new(ScalerConfig { init_scale: 1024.0, growth_interval: 2, ..Default::default() }, &gpu)?;
    let bits = |all: Vec<(String, Tensor)>| -> Result<HashMap<String, Vec<f64>>, Error> {
        let flat =
            |x: Tensor| x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
        all.into_iter().map(|(name, x)| Ok((name, flat(x)?))).collect()
    };
    let mut step = |optimizer: &mut AdamW, step, last| -> Result<f32, Box<dyn std::error::Error>> {
        let grads = gradients(optimizer, step, f64::from(scaler.get_scale()?), last)?;
        assert_eq!(scaler.step(optimizer, &grads)?, StepOutcome::Pending);
        scaler.update()?;
        let scale = scaler.get_scale()?;
        let skipped = u64::from(step >= 1);
        assert_eq!(scaler.steps()?, StepCounts { applied: step as u64 + 1 - skipped, skipped, pending: 0 });
        Ok(scale)
    };
    assert_eq!(step(&mut optimizer, 0, None)?, 1024.0);
    let before = bits(everything(&optimizer)?)?;
    assert_eq!(step(&mut optimizer, 1, Some(f32::INFINITY))?, 512.0);
    assert_eq!(bits(everything(&optimizer)?)?, before);
    assert_eq!(step(&mut optimizer, 2, None)?, 512.0);
    assert_ne!(bits(everything(&optimizer)?)?, before);
    assert_eq!(step(&mut optimizer, 3, None)?, 1024.0);
    assert_eq!(optimizer.steps()?.applied, 3);
    Ok(())
}

#[test]
fn a_scaled_step_is_the_plain_one() -> Outcome {
    let Some(gpu) = gpu() else { return Ok(()) };
    let clipped = |device: &Device| -> Result<AdamW, Box<dyn std::error::Error>> {
        let optimizer = AdamW::new(parameters(device, DType::F32)?, AdamWConfig::default())?;
        Ok(optimizer.with_clip(Clip::norm(1.0)?))
    };
    let (mut plain, mut scaled, mut unscaled) = (clipped(&gpu)?, clipped(&gpu)?, clipped(&gpu)?);
    let mut scaler = GradScaler::new(ScalerConfig { init_scale: 1024.0, ..Default::default() }, &gpu)?;
    for step in 0..STEPS {
        plain.step(&gradients(&plain, step, 1.0, None)?)?;
        let grads = gradients(&scaled, step, 1024.0, None)?;
        assert_eq!(scaler.step(&mut scaled, &grads)?, StepOutcome::Pending);
        let mut grads = gradients(&unscaled, step, 1024.0, None)?;
        scaler.unscale_(&unscaled, &mut grads)?;
        assert_eq!(scaler.step(&mut unscaled, &grads)?, StepOutcome::Applied);
        scaler.update()?;
    }
    for other in [&scaled, &unscaled] {
        for ((name, want), (_, got)) in everything(&plain)?.iter().zip(&everything(other)?) {
            assert_close(name, want, got)?;
        }
    }
    Ok(())
}

#[test]
fn a_state_moves_between_devices() -> Outcome {
    let Some(gpu) = gpu() else { return Ok(()) };
    let adamw =
        |device: &Device| AdamW::new(parameters(device, DType::BF16).unwrap(), AdamWConfig::default());
    let (mut here, mut there) = (adamw(&Device::Cpu)?, adamw(&gpu)?);
    for step in 0..STEPS {
        here.step(&gradients(&here, step, 1.0, None)?)?;
    }
    let saved = here.state_dict()?;
    there.load_state_dict(&saved)?;
    assert_eq!(there.steps()?.applied, STEPS as u64);
    for (name, got) in there.state_dict()? {
        let (want, got) = (saved[&name].to_dtype(DType::F64)?, got.to_dtype(DType::F64)?);
        assert_eq!(want.flatten_all()?.to_vec1::<f64>()?, got.flatten_all()?.to_vec1::<f64>()?, "{name}");
    }
    Ok(())
}

#[test]
fn parameters_on_two_devices_are_refused() -> Outcome {
    let Some(gpu) = gpu() else { return Ok(()) };
    let on = |device: &Device| Var::zeros(3, DType::F32, device);
    let mixed = [("here", on(&Device::Cpu)?), ("there", on(&gpu)?)];
    let error = AdamW::new(mixed, AdamWConfig::default()).unwrap_err();
    assert!(matches!(&error, Error::BadParameter { name, .. } if name == "there"), "{error}");
    Ok(())
}

/// Parameters after steps of which those at `SKIPPED` are not finite, and the rate of each. With `chaos` the host asks,
/// waits and sleeps at random in between, so that it hears of the skips at other times.
fn scheduled<R: Rule>(device: &Device, rule: &R, chaos: Option<u32>) -> Result<(Vec<f64>, Vec<f64>), Error> {
    const SKIPPED: [usize; 6] = [0, 1, 2, 7, 20, 39];
    let schedule = Schedule::one_cycle(0.05, 30)?.with_warmup(4);
    let group = Group { lr_scale: 0.3, ..Group::no_decay() };
    let mut optimizer = Fused::new(parameters(device, DType::F32)?, rule.clone())?
        .with_group(group, |name| name == "p2")?
        .with_schedule(schedule);
    let scaled = |error: grad_scaler::Error| Error::Candle(candle_core::Error::wrap(error));
    let mut scaler = GradScaler::skipping(device).map_err(scaled)?;
    let mut random = chaos.unwrap_or(1).wrapping_mul(0x9e37_79b9) | 1;
    let mut rates = Vec::new();
    for step in 0..40 {
        let bad = SKIPPED.contains(&step).then_some(f32::NAN);
        let grads = gradients(&optimizer, step, 1.0, bad)?;
        scaler.step(&mut optimizer, &grads).map_err(scaled)?;
        scaler.update().map_err(scaled)?;
        if chaos.is_none() {
            rates.push(optimizer.last_learning_rate()?);
            continue;
        }
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        match random % 5 {
            0 => drop((optimizer.learning_rate(), optimizer.steps()?, scaler.steps().map_err(scaled)?)),
            1 => std::thread::sleep(std::time::Duration::from_micros(u64::from(random >> 20))),
            2 => device.synchronize()?,
            _ => {}
        }
    }
    let mut values = Vec::new();
    for (_, tensor) in everything(&optimizer)? {
        let tensor = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        values.extend(tensor.flatten_all()?.to_vec1::<f64>()?);
    }
    Ok((values, rates))
}

fn scheduled_as_on_the_cpu<R: Rule>(gpu: &Device, rule: &R, uses_pow: Pow) -> Outcome {
    let (here, rates_here) = scheduled(&Device::Cpu, rule, None)?;
    let (there, rates_there) = scheduled(gpu, rule, None)?;
    assert_eq!(rates_here, rates_there);
    if uses_pow == Pow::Unused {
        assert_eq!(here, there, "{rule:?}");
    }
    for run in 0..20 {
        assert_eq!(scheduled(gpu, rule, Some(run))?.0, there, "{rule:?}, run {run}");
    }
    Ok(())
}

/// Whether a rule's constants go through `pow`, whose last bit is the library's own.
#[derive(Clone, Copy, PartialEq)]
enum Pow {
    Used,
    Unused,
}

#[test]
fn the_rate_of_a_step_does_not_depend_on_when_the_host_hears_of_skips() -> Outcome {
    let Some(gpu) = gpu() else { return Ok(()) };
    scheduled_as_on_the_cpu(&gpu, &SgdConfig { weight_decay: 0.1, ..Default::default() }, Pow::Unused)?;
    let momentum = Momentum::Heavy { momentum: 0.9, dampening: 0.1 };
    scheduled_as_on_the_cpu(&gpu, &SgdConfig { momentum, ..Default::default() }, Pow::Unused)?;
    scheduled_as_on_the_cpu(&gpu, &LionConfig { weight_decay: 0.1, ..Default::default() }, Pow::Unused)?;
    scheduled_as_on_the_cpu(&gpu, &AdamWConfig::default(), Pow::Used)
}
