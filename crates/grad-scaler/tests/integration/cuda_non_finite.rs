//! Gradients that are infinite or NaN on a CUDA device: clipping, errors, skips, and what is committed with a step.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use grad_scaler::{DiagnosticsConfig, GradScaler, StepOutcome};
use optim::{Clip, Error, Optimizer, Parameter, Sgd, SgdConfig, WriteBack, clip_grad_norm, clip_grad_value};

use crate::gpu::gpu;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const DTYPES: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];

fn var(device: &Device, values: &[f32], dtype: DType) -> Var {
    Var::from_tensor(&Tensor::new(values, device).unwrap().to_dtype(dtype).unwrap()).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    let here = tensor.to_device(&Device::Cpu).unwrap().to_dtype(DType::F64).unwrap();
    here.flatten_all().unwrap().to_vec1().unwrap()
}

fn same(got: &[f64], want: &[f64]) {
    let one = |(g, w): (&f64, &f64)| g == w || (g.is_nan() && w.is_nan());
    assert!(got.len() == want.len() && got.iter().zip(want).all(one), "{got:?} instead of {want:?}");
}

/// Two parameters, a plain optimizer over them, and gradients of which the first has `bad` in it.
fn two(device: &Device, dtype: DType, bad: f32) -> ([Var; 2], Sgd, GradStore) {
    let vars = [var(device, &[0.0, 0.0], dtype), var(device, &[0.0], dtype)];
    let named = [("a", vars[0].clone()), ("b", vars[1].clone())];
    let optimizer = Sgd::new(named, SgdConfig { lr: 1.0, ..Default::default() }).unwrap();
    let mut grads = GradStore::default();
    grads.insert(&vars[0], var(device, &[bad, 3.0], dtype).as_tensor().clone());
    grads.insert(&vars[1], var(device, &[100.0], dtype).as_tensor().clone());
    (vars, optimizer, grads)
}

fn named(vars: &[Var; 2]) -> [Parameter; 2] {
    [("a", vars[0].clone()).into(), ("b", vars[1].clone()).into()]
}

#[test]
fn clipping_makes_of_them_what_it_makes_on_the_cpu() -> Outcome {
    let Some(gpu) = gpu() else { return Ok(()) };
    for dtype in DTYPES {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for clip in [Clip::norm(1.0)?, Clip::value(0.5)?] {
                let [here, there] = [&Device::Cpu, &gpu].map(|device| {
                    let (vars, optimizer, grads) = two(device, dtype, bad);
                    optimizer.with_clip(clip).step(&grads).unwrap();
                    [values(&vars[0]), values(&vars[1])].concat()
                });
                same(&there, &here);
            }
            let [here, there] = [&Device::Cpu, &gpu].map(|device| {
                let (vars, _, mut grads) = two(device, dtype, bad);
                clip_grad_value(&named(&vars), &mut grads, 0.5).unwrap();
                let bounded = values(grads.get(&vars[0]).unwrap());
                let norm = clip_grad_norm(&named(&vars), &mut grads, 0.25).unwrap();
                [bounded, values(grads.get(&vars[1]).unwrap()), vec![f64::from(norm as f32)]].concat()
            });
            same(&there, &here);
        }
    }
    Ok(())
}

#[test]
fn an_error_names_the_parameters_and_changes_nothing() -> Outcome {
    let Some(gpu) = gpu() else { return Ok(()) };
    let (vars, optimizer, mut grads) = two(&gpu, DType::BF16, f32::INFINITY);
    let clip = Clip::norm(1.0)?.error_if_nonfinite();
    let mut optimizer = optimizer.with_clip(clip);
    for error in [optimizer.step(&grads).unwrap_err(), clip.apply(&named(&vars), &mut grads).unwrap_err()] {
        assert!(
            matches!(&error, Error::NonFiniteGradients { parameters, .. } if parameters == &["a"]),
            "{error}"
        );
    }
    assert_eq!((values(&vars[0]), optimizer.steps()?.applied), (vec![0.0, 0.0], 0));
    assert_eq!(values(grads.get(&vars[1]).unwrap()), [100.0]);
    Ok(())
}

#[test]
fn the_norm_of_a_skipped_step_is_its_own() -> Outcome {
    let Some(gpu) = gpu() else { return Ok(()) };
    for diagnostics in [None, Some(DiagnosticsConfig::default())] {
        let (vars, mut optimizer, grads) = two(&gpu, DType::BF16, f32::INFINITY);
        let mut scaler = GradScaler::skipping(&gpu)?;
        if let Some(config) = diagnostics {
            scaler = scaler.with_diagnostics(config)?;
        }
        let (_, _, mut good) = two(&gpu, DType::BF16, 4.0);
        for var in &vars {
            let four = if var.elem_count() == 2 { [4.0, 3.0].as_slice() } else { &[0.0] };
            good.insert(var, self::var(&gpu, four, DType::BF16).as_tensor().clone());
        }
        for (store, norm) in [(&good, 5.0), (&grads, f64::INFINITY), (&good, 5.0)] {
            scaler.step(&mut optimizer, store)?;
            scaler.update()?;
            gpu.synchronize()?;
            assert_eq!(optimizer.grad_norm(), Some(norm));
        }
        assert_eq!((scaler.steps()?.applied, scaler.steps()?.skipped), (2, 1));
        assert_eq!(optimizer.steps()?.applied, 2);
    }
    Ok(())
}

#[test]
fn what_is_committed_follows_the_devices_decision() -> Outcome {
    let Some(gpu) = gpu() else { return Ok(()) };
    for dtype in DTYPES {
        let (_, mut optimizer, bad) = two(&gpu, DType::F32, f32::NAN);
        let parameters = optim::ScaledOptimizer::parameters(&optimizer).to_vec();
        let mut good = GradStore::default();
        let mut bad_own = GradStore::default();
        for parameter in &parameters {
            good.insert(&parameter.var, parameter.var.ones_like()?);
            bad_own.insert(&parameter.var, (parameter.var.ones_like()? * f64::NAN)?);
        }
        drop(bad);
        let mut scaler = GradScaler::skipping(&gpu)?;
        let long: Vec<f32> = (0..3001).map(|i| (i % 100) as f32).collect();
        let (mean, count) = (var(&gpu, &[1.0, 2.0], dtype), var(&gpu, &vec![0.0; 3001], dtype));
        let outcome = scaler.step(&mut optimizer, &bad_own)?;
        assert_eq!(outcome, StepOutcome::Pending);
        let new = || {
            vec![
                (mean.clone(), mean.as_tensor().flip(&[0]).unwrap()),
                (count.clone(), var(&gpu, &long, dtype).as_tensor().clone()),
            ]
        };
        scaler.commit(&outcome, new())?;
        scaler.update()?;
        assert_eq!((values(&mean), values(&count)), (vec![1.0, 2.0], vec![0.0; 3001]));
        let outcome = scaler.step(&mut optimizer, &good)?;
        scaler.update()?;
        scaler.commit(&outcome, new())?;
        let long: Vec<f64> = long.iter().map(|&x| f64::from(x)).collect();
        assert_eq!((values(&mean), values(&count)), (vec![2.0, 1.0], long));
    }
    Ok(())
}

#[test]
fn a_runs_seed_draws_as_on_the_cpu() -> Outcome {
    let Some(gpu) = gpu() else { return Ok(()) };
    let run = |device: &Device, seed| -> Result<Vec<f64>, Error> {
        let weight = Var::ones(512, DType::BF16, device)?;
        let mut optimizer = Sgd::new([("w", weight.clone())], SgdConfig { lr: 1e-3, ..Default::default() })?
            .with_write_back(WriteBack::StochasticRounding { seed: 3 })?;
        optimizer.set_seed(seed);
        let mut grads = GradStore::default();
        grads.insert(&weight, Tensor::ones(512, DType::F32, device)?);
        (0..3).try_for_each(|_| optimizer.step(&grads).map(drop))?;
        Ok(values(&weight))
    };
    for seed in [0, 1, u64::MAX] {
        assert_eq!(run(&gpu, seed)?, run(&Device::Cpu, seed)?);
    }
    assert_ne!(run(&gpu, 0)?, run(&gpu, 1)?);
    Ok(())
}

#[test]
fn an_f64_reaches_16_bits_in_one_rounding() -> Outcome {
    let Some(gpu) = gpu() else { return Ok(()) };
    let x: Vec<f64> = (0..4001).map(|i| 1.0 + f64::from(i) * 2f64.powi(-13) + 2f64.powi(-40)).collect();
    for dtype in [DType::F16, DType::BF16] {
        let cast = |device: &Device| -> Result<Vec<f64>, Box<dyn std::error::Error>> {
            let x = Tensor::new(&x[..], device)?.narrow(0, 1, 4000)?;
            Ok(values(&backends::bridge::cast(&x, dtype)?))
        };
        assert_eq!(cast(&gpu)?, cast(&Device::Cpu)?);
    }
    Ok(())
}
