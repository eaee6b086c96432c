//! What a step promises beside its arithmetic: what it refuses, what a skipped one leaves alone, and what is told of it.

use super::*;
use crate::kernels::loss_scale::{LossScale, ScaleState, ScalerConfig};
use crate::kernels::sgd::{self, Momentum};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};

const CPU: Device = Device::Cpu;

fn tensor(values: &[f32]) -> Tensor {
    Tensor::new(values, &CPU).unwrap()
}

fn state() -> State {
    State { moments: vec![tensor(&[0.0; 3])], write_back: WriteBack::Nearest }
}

fn sgd() -> sgd::Settings {
    sgd::Settings { lr: 1.0, weight_decay: 0.0, momentum: Momentum::Nesterov { momentum: 0.5 } }
}

fn scale(value: f64) -> LossScale {
    let settings = ScalerConfig { init_scale: value, ..Default::default() };
    LossScale::new(settings, ScaleState::new(&settings), &CPU).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_vec1().unwrap()
}

#[test]
fn what_does_not_fit_is_refused_before_anything_changes() {
    let (weights, good, fitting) = (tensor(&[1.0; 3]), tensor(&[1.0; 3]), state());
    let mut stepper = Stepper::new(&CPU, &[0], 0).unwrap();
    let p = Parameter { slot: 0, group: 0, weights: &weights, grad: &good, state: &fitting };
    let mut refuse = |what: &str, list: &[Parameter<'_>]| {
        let result = stepper.step(list, &[sgd()], &Settings::default(), Scaling::None);
        assert!(matches!(result, Err(Error::Operand { .. } | Error::LengthMismatch { .. })), "{what}");
        assert_eq!((values(&weights), stepper.counts().unwrap()), (vec![1.0; 3], StepCounts::default()));
    };
    refuse("a gradient of another length", &[Parameter { grad: &tensor(&[1.0; 2]), ..p }]);
    refuse("an integer gradient", &[Parameter { grad: &Tensor::new(&[1u32; 3], &CPU).unwrap(), ..p }]);
    let strided = Tensor::ones((3, 2), DType::F32, &CPU).unwrap().narrow(1, 0, 1).unwrap();
    refuse("a strided gradient", &[Parameter { grad: &strided, ..p }]);
    refuse("a slot that is not there", &[Parameter { slot: 1, ..p }]);
    refuse("a slot twice", &[p, p]);
    refuse("a group that is not there", &[Parameter { group: 1, ..p }]);
    let missing = State { moments: Vec::new(), ..state() };
    refuse("a missing moment", &[Parameter { state: &missing, ..p }]);
    let narrow = State { moments: vec![Tensor::zeros(3, DType::F16, &CPU).unwrap()], ..state() };
    refuse("a moment of another dtype", &[Parameter { state: &narrow, ..p }]);
    let chance = State { write_back: WriteBack::Stochastic { key: 1 }, ..state() };
    refuse("stochastic rounding of f32", &[Parameter { state: &chance, ..p }]);
    assert!(stepper.step::<sgd::Settings>(&[p], &[], &Settings::default(), Scaling::None).is_err());
}

#[test]
fn a_skipped_step_changes_nothing_and_is_told() -> Result<()> {
    let (weights, state) = (tensor(&[1.0; 3]), state());
    let mut stepper = Stepper::new(&CPU, &[4, 7], 9)?;
    let mut scale = scale(4.0);
    let step = |stepper: &mut Stepper, grad: &Tensor, scaling: Scaling<'_>| {
        let parameter = Parameter { slot: 1, group: 0, weights: &weights, grad, state: &state };
        stepper.step(&[parameter], &[sgd()], &Settings::default(), scaling)
    };
    let bad = tensor(&[4.0, f32::INFINITY, f32::NAN]);
    let pending = step(&mut stepper, &bad, Scaling::Carried(&mut scale))?;
    let outcome = Outcome { found_inf: true, grad_norm: None, applied_before: 9 };
    let told =
        pending.poll()?.map(|told| Outcome { grad_norm: told.grad_norm.filter(|n| !n.is_nan()), ..told });
    assert_eq!(told, Some(outcome));
    let seen = pending.wait_for_seen()?.unwrap();
    assert_eq!((seen.non_finite, seen.total.non_finite), (vec![1], 2));
    // What a look saw before skips as well, whatever the gradients are now.
    let good = tensor(&[4.0, 0.0, 8.0]);
    let seen = scale.look(&[(1, &bad)])?;
    assert!(step(&mut stepper, &good, Scaling::TakenOut(&seen))?.poll()?.is_some_and(|told| told.found_inf));
    assert_eq!((values(&weights), values(&state.moments[0])), (vec![1.0; 3], vec![0.0; 3]));
    assert_eq!(stepper.wait_for_steps()?, (9, vec![4, 7]));
    scale.update()?;
    assert_eq!(scale.wait_for_state()?.scale, 2.0);
    // Clean again: nothing of the overflow is left in the scale.
    let pending = step(&mut stepper, &good, Scaling::Carried(&mut scale))?;
    let norm = Some((2f64 * 2.0 + 4.0 * 4.0).sqrt());
    assert_eq!(pending.wait()?, Some(Outcome { found_inf: false, grad_norm: norm, applied_before: 9 }));
    scale.update()?;
    assert_eq!(scale.wait_for_state()?.scale, 2.0);
    assert_eq!(stepper.wait_for_steps()?, (10, vec![4, 8]));
    assert_eq!(stepper.counts()?, StepCounts { applied: 10, skipped: 2, pending: 0 });
    assert_ne!(values(&weights), [1.0; 3]);
    Ok(())
}

#[test]
fn a_norm_that_is_not_finite_is_refused_where_it_is_asked_for() -> Result<()> {
    let (weights, state) = (tensor(&[1.0; 3]), state());
    let grad = tensor(&[1.0, f32::NAN, 1.0]);
    let parameter = Parameter { slot: 0, group: 0, weights: &weights, grad: &grad, state: &state };
    let mut stepper = Stepper::new(&CPU, &[0], 0)?;
    let settings = Settings { on_non_finite: OnNonFinite::Refuse, ..Default::default() };
    let error = stepper.step(&[parameter], &[sgd()], &settings, Scaling::None).unwrap_err();
    assert!(matches!(&error, Error::NonFinite { slots, .. } if slots == &[0]), "{error}");
    assert_eq!((values(&weights), stepper.counts()?), (vec![1.0; 3], StepCounts::default()));
    Ok(())
}

/// The rate of a step is that of the steps applied before it; what is told of a rate is of a step at that rate.
#[test]
fn rates_follow_applied_steps() -> Result<()> {
    let (weights, state, grad) = (tensor(&[0.0; 3]), state(), tensor(&[1.0; 3]));
    let plain = sgd::Settings { momentum: Momentum::None, ..sgd() };
    let state = State { moments: Vec::new(), ..state };
    let parameter = Parameter { slot: 0, group: 0, weights: &weights, grad: &grad, state: &state };
    let mut stepper = Stepper::new(&CPU, &[0], 2)?;
    let rate = |applied: u64| [0.0, 0.0, 1.0, 10.0][applied as usize];
    let settings = Settings { rate: Some(&rate), ..Default::default() };
    for (want, before) in [(-1.0, 2), (-11.0, 3)] {
        stepper.step(&[parameter], &[plain], &settings, Scaling::None)?;
        assert_eq!(values(&weights), [want; 3]);
        let last = stepper.last_at_rate()?.map(|told| (told.applied_before, told.grad_norm));
        assert_eq!(last, Some((before, None)));
    }
    stepper.rates_changed();
    assert!(stepper.last_at_rate()?.is_none() && stepper.last()?.is_some());
    Ok(())
}
