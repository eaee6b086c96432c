//! Gradients that are infinite or NaN: what clipping makes of them, how a user is told, and what a skipped step leaves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use grad_scaler::{GradScaler, ScalerConfig, StepOutcome};
use optim::{
    Adam, AdamConfig, AdamW, AdamWConfig, Clip, Error, Fused, LionConfig, Momentum, Optimizer, Parameter,
    Rule, Schedule, Sgd, SgdConfig, WriteBack, clip_grad_norm, clip_grad_value,
};
use std::collections::BTreeMap;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const DTYPES: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];
const BAD: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

fn var(values: &[f32], dtype: DType) -> Var {
    Var::from_tensor(&Tensor::new(values, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn grads(entries: &[(&Var, &[f32])]) -> GradStore {
    let mut store = GradStore::default();
    for (var, grad) in entries {
        store.insert(var, Tensor::new(*grad, &Device::Cpu).unwrap().to_dtype(var.dtype()).unwrap());
    }
    store
}

fn named(vars: &[Var]) -> Vec<Parameter> {
    vars.iter().enumerate().map(|(i, var)| (format!("p{i}"), var.clone()).into()).collect()
}

fn sgd(vars: &[Var]) -> Sgd {
    Sgd::new(named(vars), SgdConfig { lr: 1.0, ..Default::default() }).unwrap()
}

/// As `clip_grad_norm_`: a NaN norm is a NaN coefficient, and an infinite one is 0, which makes NaN of an infinity.
#[test]
fn a_norm_that_is_not_finite_reaches_every_gradient_as_in_pytorch() -> Outcome {
    for dtype in DTYPES {
        for (bad, other) in [(f32::NAN, f64::NAN), (f32::INFINITY, 0.0), (f32::NEG_INFINITY, 0.0)] {
            let vars = [var(&[0.0, 0.0], dtype), var(&[0.0], dtype)];
            let store = grads(&[(&vars[0], &[bad, 3.0]), (&vars[1], &[100.0])]);

            let mut before = GradStore::default();
            vars.iter().for_each(|v| drop(before.insert(v, store.get(v).unwrap().clone())));
            let norm = clip_grad_norm(&named(&vars), &mut before, 1.0)?;
            assert!(!norm.is_finite() && norm.is_nan() == bad.is_nan());
            let clipped = |v: &Var| values(before.get(v).unwrap());
            let same = |got: f64, want: f64| got == want || (got.is_nan() && want.is_nan());
            assert!(clipped(&vars[0])[0].is_nan(), "{dtype:?} {bad}");
            assert!(
                same(clipped(&vars[0])[1], other) && same(clipped(&vars[1])[0], other),
                "{dtype:?} {bad}"
            );

            let mut optimizer = sgd(&vars).with_clip(Clip::norm(1.0)?);
            optimizer.step(&store)?;
            assert!(values(&vars[0])[0].is_nan());
            assert!(
                same(values(&vars[0])[1].abs(), other) && same(values(&vars[1])[0].abs(), other),
                "{dtype:?}"
            );
            let norm = optimizer.grad_norm().unwrap();
            assert!(!norm.is_finite() && norm.is_nan() == bad.is_nan());
        }
    }
    Ok(())
}

/// As `clip_grad_value_`: infinities are bounded, and a NaN stays one.
#[test]
fn a_bound_on_values_leaves_a_nan_alone() -> Outcome {
    for dtype in DTYPES {
        let gradient = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.25, -0.0];
        let check = |got: Vec<f64>| {
            assert!(got[0].is_nan(), "{dtype:?}");
            assert_eq!(got[1..], [0.5, -0.5, 0.25, 0.0], "{dtype:?}");
        };
        let vars = [var(&[0.0; 5], dtype)];
        let mut store = grads(&[(&vars[0], &gradient)]);
        sgd(&vars).with_clip(Clip::value(0.5)?).step(&store)?;
        check(values(&vars[0]).into_iter().map(|w| -w).collect());
        clip_grad_value(&named(&vars), &mut store, 0.5)?;
        check(values(store.get(&vars[0]).unwrap()));
        assert!(values(store.get(&vars[0]).unwrap())[4].is_sign_negative());
    }
    Ok(())
}

#[test]
fn an_error_names_the_parameters_and_changes_nothing() -> Outcome {
    for dtype in DTYPES {
        for bad in BAD {
            for clip in [Clip::norm(1.0)?, Clip::value(1.0)?] {
                let clip = clip.error_if_nonfinite();
                let vars = [var(&[1.0, 1.0], dtype), var(&[1.0], dtype), var(&[1.0], dtype)];
                let store = || grads(&[(&vars[0], &[0.5, 0.5]), (&vars[1], &[bad]), (&vars[2], &[bad])]);
                let named_in = |error: Error| match error {
                    Error::NonFiniteGradients { norm, parameters } => {
                        assert!(!norm.is_finite());
                        parameters
                    }
                    other => panic!("{other}"),
                };
                let mut optimizer = AdamW::new(named(&vars), AdamWConfig::default())?.with_clip(clip);
                let before = bits(&optimizer, &vars);
                assert_eq!(named_in(optimizer.step(&store()).unwrap_err()), ["p1", "p2"]);
                assert_eq!(bits(&optimizer, &vars), before);

                let mut own = store();
                assert_eq!(named_in(clip.apply(&named(&vars), &mut own).unwrap_err()), ["p1", "p2"]);
                assert_eq!(values(own.get(&vars[0]).unwrap()), [0.5, 0.5]);
                // A scaler skips before there is anything to report, and a finite step is taken.
                let mut scaler = GradScaler::skipping(&Device::Cpu)?;
                let outcome = scaler.step(&mut optimizer, &store())?;
                assert_eq!(outcome, StepOutcome::Skipped { overflowed: vec!["p1".into(), "p2".into()] });
                optimizer.step(&grads(&[(&vars[0], &[0.5, 0.5])]))?;
                assert_ne!(bits(&optimizer, &vars), before);
            }
        }
    }
    Ok(())
}

/// Finite gradients whose squares' sum is not.
#[test]
fn a_norm_that_overflows_by_itself_is_an_error_too() -> Outcome {
    let vars = [var(&[1.0], DType::F64)];
    let mut store = GradStore::default();
    store.insert(&vars[0], Tensor::new(&[1e200f64], &Device::Cpu)?);
    let mut optimizer = sgd(&vars).with_clip(Clip::norm(1.0)?.error_if_nonfinite());
    let refused = |error: Error| {
        assert!(
            matches!(&error, Error::NonFiniteGradients { parameters, .. } if parameters.is_empty()),
            "{error}"
        );
    };
    refused(optimizer.step(&store).unwrap_err());
    let under_a_scaler = GradScaler::skipping(&Device::Cpu)?.step(&mut optimizer, &store).unwrap_err();
    assert!(under_a_scaler.to_string().contains("norm is inf"), "{under_a_scaler}");
    assert_eq!(values(&vars[0]), [1.0]);
    Ok(())
}

/// Parameters and state as bits.
fn bits(optimizer: &dyn Optimizer, vars: &[Var]) -> BTreeMap<String, Vec<u8>> {
    let mut state = optimizer.state_dict().unwrap();
    for (i, var) in vars.iter().enumerate() {
        state.insert(format!("p{i}"), var.as_tensor().clone());
    }
    let bytes = |tensor: Tensor| {
        let mut bytes = Vec::new();
        tensor.write_bytes(&mut bytes).unwrap();
        bytes
    };
    state.into_iter().map(|(name, tensor)| (name, bytes(tensor))).collect()
}

fn leaves_nothing<R: Rule>(rule: &R, write_back: WriteBack) -> Outcome {
    let schedule = Schedule::cosine(0.01, 50)?.with_warmup(5);
    let scalers: [fn() -> GradScaler; 2] = [
        || GradScaler::skipping(&Device::Cpu).unwrap(),
        || {
            GradScaler::new(
                ScalerConfig { init_scale: 4.0, growth_interval: 100, ..Default::default() },
                &Device::Cpu,
            )
            .unwrap()
        },
    ];
    for (which, scaler) in scalers.into_iter().enumerate() {
        let mut scaler = scaler();
        // Those of a loss scaler are not bf16.
        let dtypes = DTYPES.into_iter().filter(|dtype| which == 0 || *dtype != DType::BF16);
        let vars: Vec<Var> = dtypes.map(|dtype| var(&[1.0, -0.5], dtype)).collect();
        let mut optimizer =
            Fused::new(named(&vars), rule.clone())?.with_write_back(write_back)?.with_schedule(schedule);
        for step in 0..6u32 {
            let scale = scaler.get_scale()?;
            let good = |index: usize| [scale * 0.25 * (step as f32 - 2.5), scale * index as f32];
            let store = |bad: Option<(usize, f32)>| {
                let mut store = GradStore::default();
                for (index, var) in vars.iter().enumerate() {
                    let mut grad = good(index);
                    if let Some((at, bad)) = bad {
                        grad[1] = if at == index { bad } else { grad[1] };
                    }
                    let grad = Tensor::new(&grad, &Device::Cpu).unwrap().to_dtype(var.dtype()).unwrap();
                    store.insert(var, grad);
                }
                store
            };
            let outcome = scaler.step(&mut optimizer, &store(None))?;
            assert_eq!(outcome, StepOutcome::Applied);
            scaler.update()?;
            assert_eq!(optimizer.learning_rate(), schedule.lr(u64::from(step)));
            let (before, norm) = (bits(&optimizer, &vars), optimizer.grad_norm().unwrap());
            assert!(norm.is_finite());

            let bad = BAD[step as usize % 3];
            let at = step as usize % vars.len();
            let outcome = scaler.step(&mut optimizer, &store(Some((at, bad))))?;
            assert_eq!(outcome, StepOutcome::Skipped { overflowed: vec![format!("p{at}")] });
            scaler.update()?;
            assert!(bits(&optimizer, &vars) == before, "{rule:?} {write_back:?} step {step}");
            // What is logged of the step is the skipped step's own: its norm, and the rate that it would have had.
            let norm = optimizer.grad_norm().unwrap();
            assert!(!norm.is_finite() && norm.is_nan() == bad.is_nan(), "{norm}");
            assert_eq!(optimizer.last_learning_rate()?, schedule.lr(u64::from(step) + 1));
            assert_eq!(optimizer.steps()?.applied, u64::from(step) + 1);
        }
    }
    Ok(())
}

#[test]
fn a_skipped_step_leaves_not_a_bit_and_tells_of_itself() -> Outcome {
    for write_back in [WriteBack::MasterWeights, WriteBack::Kahan, WriteBack::StochasticRounding { seed: 5 }]
    {
        leaves_nothing(&AdamWConfig::default(), write_back)?;
        leaves_nothing(&AdamConfig { weight_decay: 0.1, ..Default::default() }, write_back)?;
        leaves_nothing(&LionConfig::default(), write_back)?;
        leaves_nothing(&SgdConfig::default(), write_back)?;
        let momentum = Momentum::Heavy { momentum: 0.9, dampening: 0.1 };
        leaves_nothing(&SgdConfig { momentum, ..Default::default() }, write_back)?;
    }
    Ok(())
}

/// After `unscale_` the gradients may be replaced; what was found before still skips, and is told.
#[test]
fn a_step_that_is_skipped_after_unscaling_tells_its_norm() -> Outcome {
    let vars = [var(&[1.0], DType::F32)];
    let mut optimizer = Adam::new(named(&vars), AdamConfig::default())?.with_clip(Clip::norm(1.0)?);
    let mut scaler = GradScaler::new(
        ScalerConfig { init_scale: 1024.0, growth_interval: 2, ..Default::default() },
        &Device::Cpu,
    )?;
    scaler.step(&mut optimizer, &grads(&[(&vars[0], &[3072.0])]))?;
    scaler.update()?;
    assert_eq!(optimizer.grad_norm(), Some(3.0));
    let mut store = grads(&[(&vars[0], &[f32::INFINITY])]);
    scaler.unscale_(&optimizer, &mut store)?;
    assert!(matches!(scaler.step(&mut optimizer, &store)?, StepOutcome::Skipped { .. }));
    assert_eq!(optimizer.grad_norm(), Some(f64::INFINITY));
    Ok(())
}
