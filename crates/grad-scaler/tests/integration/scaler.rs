//! `GradScaler` around candle-nn's optimizers: scaling, skipping, misuse, several optimizers and losses, diagnostics.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::SGD;
use grad_scaler::{
    DiagnosticsConfig, Error, GradScaler, Scaled, ScalerConfig, StepCounts, StepOutcome, Warning,
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const CPU: Device = Device::Cpu;

fn scaler() -> GradScaler {
    GradScaler::new(ScalerConfig { init_scale: 1024.0, growth_interval: 2, ..Default::default() }, &CPU)
        .unwrap()
}

fn var(values: &[f32], dtype: DType) -> Var {
    Var::from_tensor(&Tensor::new(values, &CPU).unwrap().to_dtype(dtype).unwrap()).unwrap()
}

fn sgd(name: &str, var: &Var) -> Scaled<SGD> {
    Scaled::new([(name, var.clone())], 0.5).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().to_vec1().unwrap()
}

fn grads(entries: &[(&Var, &[f32])]) -> GradStore {
    let mut store = GradStore::default();
    for (var, grad) in entries {
        store.insert(var, Tensor::new(*grad, &CPU).unwrap().to_dtype(var.dtype()).unwrap());
    }
    store
}

#[test]
fn an_f16_loss_is_widened_before_it_is_scaled() -> Outcome {
    let scaler = GradScaler::new(ScalerConfig::default(), &CPU)?;
    let loss = Tensor::new(3f32, &CPU)?.to_dtype(DType::F16)?;
    let scaled = scaler.scale(&loss)?;
    assert_eq!(scaled.dtype(), DType::F32);
    assert_eq!(scaled.to_scalar::<f32>()?, 3.0 * 65536.0);
    assert_eq!(scaler.scale(&Tensor::new(3f64, &CPU)?)?.to_scalar::<f64>()?, 3.0 * 65536.0);
    Ok(())
}

#[test]
fn what_needs_no_scaling_is_refused() -> Outcome {
    let mut scaler = scaler();
    let loss = Tensor::new(1f32, &CPU)?;
    let error = scaler.scale(&loss.to_dtype(DType::BF16)?).unwrap_err();
    assert!(matches!(error, Error::Bf16 { op: "scale", .. }), "{error}");
    let error = scaler.scale(&loss.to_dtype(DType::I64)?).unwrap_err();
    assert!(matches!(error, Error::NotAFloat { got: "i64", .. }), "{error}");
    let weight = var(&[1.0], DType::BF16);
    let mut optimizer = sgd("weight", &weight);
    let error = scaler.step(&mut optimizer, &grads(&[(&weight, &[1.0])])).unwrap_err();
    assert!(matches!(&error, Error::Bf16 { op: "step", what } if what.contains("'weight'")), "{error}");
    Ok(())
}

#[test]
fn a_clean_step_is_the_unscaled_step() -> Outcome {
    for dtype in [DType::F16, DType::F32, DType::F64] {
        let weight = var(&[1.0, -2.0], dtype);
        let mut optimizer = sgd("weight", &weight);
        let mut scaler = scaler();
        let data = Tensor::new(&[0.25f32, 0.5], &CPU)?.to_dtype(dtype)?;
        let loss = (weight.as_tensor() * &data)?.sum_all()?;
        let grads = scaler.scale(&loss)?.backward()?;
        assert_eq!(values(grads.get(&weight).ok_or("no gradient")?), [256.0, 512.0]);
        assert_eq!(scaler.step(&mut optimizer, &grads)?, StepOutcome::Applied);
        assert_eq!(values(&weight), [0.875, -2.25], "{dtype:?}");
    }
    Ok(())
}

#[test]
fn unscaled_gradients_are_f32_and_used_as_they_are() -> Outcome {
    let weight = var(&[1.0, 1.0], DType::F16);
    let mut optimizer = sgd("weight", &weight);
    let mut scaler = scaler();
    // 2^-26 after unscaling: less than f16 can hold.
    let mut grads = grads(&[(&weight, &[512.0, 2f32.powi(-16)])]);
    scaler.unscale_(&optimizer, &mut grads)?;
    let unscaled = grads.get(&weight).ok_or("no gradient")?;
    assert_eq!(unscaled.dtype(), DType::F32);
    assert_eq!(values(unscaled), [0.5, 2f32.powi(-26)]);
    grads.insert(&weight, Tensor::new(&[0.25f32, 0.5], &CPU)?);
    scaler.step(&mut optimizer, &grads)?;
    assert_eq!(values(&weight), [0.875, 0.75]);
    Ok(())
}

#[test]
fn an_overflow_skips_and_backs_off_and_clean_steps_grow() -> Outcome {
    let weight = var(&[1.0, 1.0], DType::F32);
    let mut optimizer = sgd("weight", &weight);
    let mut scaler = scaler();
    for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        let before = scaler.get_scale()?;
        let outcome = scaler.step(&mut optimizer, &grads(&[(&weight, &[1.0, bad])]))?;
        assert_eq!(outcome, StepOutcome::Skipped { overflowed: vec!["weight".into()] });
        scaler.update()?;
        assert_eq!(values(&weight), [1.0, 1.0]);
        assert_eq!(scaler.get_scale()?, before / 2.0);
    }
    for _ in 0..4 {
        scaler.step(&mut optimizer, &grads(&[(&weight, &[0.0, 0.0])]))?;
        scaler.update()?;
    }
    assert_eq!(scaler.get_scale()?, 512.0);
    assert_eq!(scaler.steps()?, StepCounts { applied: 4, skipped: 3, pending: 0 });
    Ok(())
}

#[test]
fn misuse_is_an_error_that_changes_nothing() -> Outcome {
    let weight = var(&[1.0], DType::F32);
    let mut optimizer = sgd("weight", &weight);
    let mut scaler = scaler();
    let mut store = grads(&[(&weight, &[1024.0])]);
    assert!(matches!(scaler.update(), Err(Error::NoInfChecks)));
    let error = scaler.step(&mut optimizer, &GradStore::default()).unwrap_err();
    assert!(matches!(error, Error::NoGradients { op: "step", parameters: 1 }), "{error}");

    scaler.unscale_(&optimizer, &mut store)?;
    assert!(matches!(scaler.unscale_(&optimizer, &mut store), Err(Error::AlreadyUnscaled)));
    assert_eq!(values(store.get(&weight).ok_or("no gradient")?), [1.0]);
    scaler.step(&mut optimizer, &store)?;
    assert!(matches!(scaler.step(&mut optimizer, &store), Err(Error::AlreadyStepped)));
    assert!(matches!(scaler.unscale_(&optimizer, &mut store), Err(Error::UnscaleAfterStep)));
    assert_eq!(values(&weight), [0.5]);
    scaler.update()?;
    assert!(matches!(scaler.update(), Err(Error::NoInfChecks)));
    // After an update the round begins anew.
    scaler.unscale_(&optimizer, &mut store)?;
    Ok(())
}

#[test]
fn one_overflow_among_several_optimizers_skips_one_and_backs_off_for_all() -> Outcome {
    let (left, right) = (var(&[1.0], DType::F32), var(&[1.0], DType::F32));
    let (mut of_left, mut of_right) = (sgd("left", &left), sgd("right", &right));
    let mut scaler = scaler();
    // Two losses share the parameters: their gradients add up in one store before the step.
    let first = scaler.scale(&left.as_tensor().sum_all()?)?.backward()?;
    let mut second = scaler.scale(&(left.as_tensor() * right.as_tensor())?.sum_all()?)?.backward()?;
    second.extend(first)?;
    second.insert(&right, Tensor::new(&[f32::INFINITY], &CPU)?);
    assert_eq!(scaler.step(&mut of_left, &second)?, StepOutcome::Applied);
    assert!(matches!(scaler.step(&mut of_right, &second)?, StepOutcome::Skipped { .. }));
    scaler.update()?;
    assert_eq!((values(&left), values(&right)), (vec![0.0], vec![1.0]));
    assert_eq!(scaler.get_scale()?, 512.0);
    assert_eq!(scaler.steps()?, StepCounts { applied: 1, skipped: 1, pending: 0 });
    Ok(())
}

#[test]
fn a_disabled_scaler_stays_out_of_the_way() -> Outcome {
    let weight = var(&[1.0], DType::BF16);
    let mut optimizer = sgd("weight", &weight);
    let mut scaler = GradScaler::disabled();
    let loss = weight.as_tensor().sum_all()?;
    assert_eq!(scaler.scale(&loss)?.id(), loss.id());
    let mut store = grads(&[(&weight, &[1.0])]);
    for _ in 0..2 {
        scaler.unscale_(&optimizer, &mut store)?;
        assert_eq!(scaler.step(&mut optimizer, &store)?, StepOutcome::Applied);
        scaler.update()?;
    }
    assert_eq!(values(&weight), [0.0]);
    assert!(!scaler.is_enabled());
    assert_eq!(scaler.get_scale()?, 1.0);
    assert!(scaler.state_dict()?.is_empty());
    Ok(())
}

#[test]
fn diagnostics_name_what_overflowed_and_count_what_underflowed() -> Outcome {
    let (left, right) = (var(&[1.0; 4], DType::F16), var(&[1.0; 4], DType::F16));
    let parameters = [("left", left.clone()), ("right", right.clone())];
    let mut optimizer = Scaled::<SGD>::new(parameters, 0.1)?;
    let config = DiagnosticsConfig { history: 2, patience: 3 };
    let config_scaler =
        ScalerConfig { init_scale: 4.0, growth_interval: 100, min_scale: Some(1.0), ..Default::default() };
    let mut scaler = GradScaler::new(config_scaler, &CPU)?.with_diagnostics(config)?;

    // Two zeros, one subnormal (2^-15), one entry that is just normal (2^-14).
    let small = [0.0, -0.0, 2f32.powi(-15), 2f32.powi(-14)];
    scaler.step(&mut optimizer, &grads(&[(&left, &small), (&right, &[1.0; 4])]))?;
    scaler.update()?;
    let diagnostics = scaler.diagnostics().ok_or("on")?;
    assert_eq!((diagnostics.underflow().zero, diagnostics.underflow().subnormal), (0.25, 0.125));
    assert!(diagnostics.overflowed().is_empty());
    assert_eq!(diagnostics.warning(), None);

    for round in 1..=5 {
        let store = grads(&[(&left, &[1.0; 4]), (&right, &[1.0, f32::INFINITY, 1.0, 1.0])]);
        let outcome = scaler.step(&mut optimizer, &store)?;
        assert_eq!(outcome, StepOutcome::Skipped { overflowed: vec!["right".into()] });
        scaler.update()?;
        let diagnostics = scaler.diagnostics().ok_or("on")?;
        assert_eq!(diagnostics.overflowed(), ["right"]);
        let expected = match round {
            1 | 2 => None,
            // 4 and 2 are above the floor: three updates began at it after five.
            3 | 4 => Some(Warning::SkippingInARow { steps: round }),
            _ => Some(Warning::AtFloor { steps: 3, scale: 1.0 }),
        };
        assert_eq!(diagnostics.warning(), expected, "round {round}");
    }
    let diagnostics = scaler.diagnostics().ok_or("on")?;
    assert_eq!(diagnostics.history().len(), 2);
    assert!(diagnostics.history().all(|entry| entry.found_inf && entry.scale == 1.0));
    assert!(self::scaler().diagnostics().is_none());
    Ok(())
}
