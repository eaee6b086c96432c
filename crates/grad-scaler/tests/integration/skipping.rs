//! A scaler that scales nothing and skips what is not finite, what it names, and what is committed with a step.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::SGD;
use grad_scaler::{
    DiagnosticsConfig, Error, GradScaler, Scaled, ScalerConfig, StateDict, StateValue, StepCounts,
    StepOutcome,
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const CPU: Device = Device::Cpu;
const DTYPES: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];

fn var(values: &[f32], dtype: DType) -> Var {
    Var::from_tensor(&Tensor::new(values, &CPU).unwrap().to_dtype(dtype).unwrap()).unwrap()
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    let mut bytes = Vec::new();
    tensor.write_bytes(&mut bytes).unwrap();
    bytes
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn a_loss_of_any_dtype_stays_as_it_is() -> Outcome {
    let scaler = GradScaler::skipping(&CPU)?;
    for dtype in DTYPES.into_iter().chain([DType::U32]) {
        let loss = Tensor::new(3f32, &CPU)?.to_dtype(dtype)?;
        assert_eq!(scaler.scale(&loss)?.id(), loss.id());
    }
    assert_eq!((scaler.get_scale()?, scaler.is_enabled()), (1.0, false));
    assert!(scaler.config().is_none() && scaler.state()?.is_none());
    Ok(())
}

#[test]
fn a_step_that_is_not_finite_is_skipped_by_name_in_every_dtype() -> Outcome {
    for dtype in DTYPES {
        let (left, right) = (var(&[1.0, 2.0], dtype), var(&[3.0], dtype));
        let mut optimizer = Scaled::<SGD>::new([("left", left.clone()), ("right", right.clone())], 0.5)?;
        let mut scaler = GradScaler::skipping(&CPU)?;
        for (round, bad) in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().enumerate() {
            let before = (bytes(&left), bytes(&right));
            let mut grads = GradStore::default();
            grads.insert(&left, var(&[1.0, 1.0], dtype).as_tensor().clone());
            grads.insert(&right, var(&[bad], dtype).as_tensor().clone());
            let outcome = scaler.step(&mut optimizer, &grads)?;
            assert_eq!(outcome, StepOutcome::Skipped { overflowed: vec!["right".into()] });
            assert!(matches!(scaler.step(&mut optimizer, &grads), Err(Error::AlreadyStepped)));
            scaler.update()?;
            assert_eq!((bytes(&left), bytes(&right)), before);
            assert_eq!(scaler.steps()?, StepCounts { applied: 0, skipped: round as u64 + 1, pending: 0 });
        }
        let mut grads = GradStore::default();
        grads.insert(&left, var(&[1.0, 1.0], dtype).as_tensor().clone());
        assert_eq!(scaler.step(&mut optimizer, &grads)?, StepOutcome::Applied);
        scaler.update()?;
        assert_eq!((values(&left), values(&right)), (vec![0.5, 1.5], vec![3.0]));
        assert_eq!(scaler.steps()?, StepCounts { applied: 1, skipped: 3, pending: 0 });
        assert_eq!(scaler.get_scale()?, 1.0);
    }
    Ok(())
}

#[test]
fn it_has_no_state_to_save_and_diagnostics_if_asked() -> Outcome {
    let mut scaler = GradScaler::skipping(&CPU)?.with_diagnostics(DiagnosticsConfig::default())?;
    assert!(scaler.state_dict()?.is_empty());
    scaler.load_state_dict(&StateDict::new())?;
    scaler.load_state_dict(&StateDict::from([("scale".into(), StateValue::Float(512.0))]))?;
    assert_eq!(scaler.get_scale()?, 1.0);
    let weight = var(&[1.0], DType::BF16);
    let mut optimizer = Scaled::<SGD>::new([("weight", weight.clone())], 0.5)?;
    let mut grads = GradStore::default();
    grads.insert(&weight, var(&[f32::NAN], DType::BF16).as_tensor().clone());
    scaler.unscale_(&optimizer, &mut grads)?;
    let outcome = scaler.step(&mut optimizer, &grads)?;
    assert_eq!(outcome, StepOutcome::Skipped { overflowed: vec!["weight".into()] });
    scaler.update()?;
    assert_eq!(scaler.diagnostics().ok_or("on")?.overflowed(), ["weight"]);
    assert_eq!(scaler.diagnostics().ok_or("on")?.history().len(), 1);
    Ok(())
}

/// candle's cast of an f64 to 16 bits rounds twice: 1 + 2^-11 + 2^-40 is no tie in f64, and one in f32.
#[test]
fn an_f64_gradient_reaches_a_16_bit_parameter_in_one_rounding() -> Outcome {
    for (dtype, spacing) in [(DType::F16, 2f64.powi(-10)), (DType::BF16, 2f64.powi(-7))] {
        let weight = var(&[0.0], dtype);
        let mut optimizer = Scaled::<SGD>::new([("weight", weight.clone())], 1.0)?;
        let mut grads = GradStore::default();
        grads.insert(&weight, Tensor::new(&[1.0 + spacing / 2.0 + 2f64.powi(-40)], &CPU)?);
        GradScaler::skipping(&CPU)?.step(&mut optimizer, &grads)?;
        assert_eq!(values(&weight), [-1.0 - spacing], "{dtype:?}");
    }
    Ok(())
}

#[test]
fn an_optimizer_over_nothing_is_refused() {
    let none: [(&str, Var); 0] = [];
    assert!(matches!(Scaled::<SGD>::new(none, 0.1), Err(optim::Error::NoParameters)));
}

#[test]
fn what_is_committed_follows_the_step() -> Outcome {
    let skipped = StepOutcome::Skipped { overflowed: vec![] };
    for mut scaler in
        [GradScaler::disabled(), GradScaler::skipping(&CPU)?, GradScaler::new(ScalerConfig::default(), &CPU)?]
    {
        for dtype in DTYPES {
            let mean = var(&[1.0, 2.0], dtype);
            let before = bytes(&mean);
            scaler
                .commit(&skipped, vec![(mean.clone(), var(&[f32::NAN, 5.0], dtype).as_tensor().clone())])?;
            assert_eq!(bytes(&mean), before);
            // A view of the variable itself is read before it is written.
            let swapped = mean.as_tensor().flip(&[0])?;
            scaler.commit(&StepOutcome::Applied, vec![(mean.clone(), swapped)])?;
            assert_eq!(values(&mean), [2.0, 1.0]);
            scaler.commit(&StepOutcome::Applied, vec![(mean.clone(), mean.as_tensor().clone())])?;
            assert_eq!(values(&mean), [2.0, 1.0]);
            let error = scaler.commit(&StepOutcome::Pending, vec![]).unwrap_err();
            assert!(matches!(error, Error::NothingPending), "{error}");
        }
    }
    Ok(())
}

#[test]
fn a_value_that_does_not_fit_its_variable_is_refused_before_anything_is_written() -> Outcome {
    let mut scaler = GradScaler::skipping(&CPU)?;
    let (good, other) = (var(&[1.0], DType::F32), var(&[1.0], DType::F32));
    for bad in [var(&[1.0, 2.0], DType::F32), var(&[1.0], DType::F16)] {
        let updates = vec![
            (good.clone(), var(&[9.0], DType::F32).as_tensor().clone()),
            (other.clone(), bad.as_tensor().clone()),
        ];
        let error = scaler.commit(&StepOutcome::Applied, updates).unwrap_err();
        assert!(matches!(error, Error::BadUpdate { index: 1, .. }), "{error}");
        assert_eq!((values(&good), values(&other)), (vec![1.0], vec![1.0]));
    }
    Ok(())
}
