//! The rate of a step is a function of the number of applied steps, and the seed of a run reaches what draws.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use backends::kernels::loss_scale::{LossScale, ScaleState, ScalerConfig};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use optim::{
    AdamWConfig, Error, Fused, Group, LionConfig, Optimizer, Rule, ScaledOptimizer, Scaling, Schedule, Sgd,
    SgdConfig, WriteBack,
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn var(len: usize, dtype: DType) -> Var {
    Var::from_tensor(&Tensor::ones(len, dtype, &Device::Cpu).unwrap()).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn full(vars: &[Var], value: f32) -> GradStore {
    let mut store = GradStore::default();
    for var in vars {
        store.insert(var, Tensor::full(value, var.shape(), &Device::Cpu).unwrap());
    }
    store
}

/// One run is told its schedule, the other has its rate set before each step.
fn follows<R: Rule>(rule: &R) -> Outcome {
    let schedule = Schedule::one_cycle(0.1, 12)?.with_warmup(3);
    let group = Group { lr_scale: 0.3, ..Group::no_decay() };
    let make = |vars: &[Var]| {
        let named = [("a", vars[0].clone()), ("b", vars[1].clone())];
        Fused::new(named, rule.clone())?.with_group(group, |name| name == "b")
    };
    let (told, set) = ([3, 4].map(|n| var(n, DType::F64)), [3, 4].map(|n| var(n, DType::F64)));
    let (mut by_schedule, mut by_hand) = (make(&told)?.with_schedule(schedule), make(&set)?);
    assert_eq!(by_schedule.learning_rate(), schedule.lr(0));
    let settings = ScalerConfig { init_scale: 1.0, is_static: true, ..Default::default() };
    let mut scale = LossScale::new(settings, ScaleState::new(&settings), &Device::Cpu)?;
    let mut applied = 0;
    for step in 0..20 {
        let value = if [0, 1, 5, 9].contains(&step) { f32::NAN } else { 0.5 - step as f32 / 10.0 };
        by_schedule.scaled_step(&full(&told, value), Scaling::Carried(&mut scale))?;
        scale.update()?;
        assert_eq!(by_schedule.last_learning_rate()?, schedule.lr(applied));
        if value.is_finite() {
            by_hand.set_learning_rate(schedule.lr(applied))?;
            by_hand.step(&full(&set, value))?;
            applied += 1;
        }
        for (told, set) in told.iter().zip(&set) {
            assert_eq!(values(told), values(set), "{rule:?} step {step}");
        }
    }
    assert_eq!((by_schedule.steps()?.applied, by_hand.steps()?.applied), (16, 16));
    Ok(())
}

#[test]
fn skipped_steps_do_not_move_a_schedule() -> Outcome {
    follows(&SgdConfig { weight_decay: 0.1, ..Default::default() })?;
    follows(&AdamWConfig::default())?;
    follows(&LionConfig { weight_decay: 0.1, ..Default::default() })
}

#[test]
fn a_schedule_goes_on_from_a_loaded_state_and_a_rate_removes_it() -> Outcome {
    let vars = [var(1, DType::F64)];
    let make = || Sgd::new([("w", vars[0].clone())], SgdConfig { lr: 7.0, ..Default::default() });
    let schedule = Schedule::step(1.0, 2, 0.5)?;
    let mut optimizer = make()?.with_schedule(schedule);
    for rate in [1.0, 1.0, 0.5] {
        optimizer.step(&full(&vars, 1.0))?;
        assert_eq!(optimizer.learning_rate(), rate);
    }
    let state = optimizer.state_dict()?;
    let mut loaded = make()?.with_schedule(schedule);
    loaded.load_state_dict(&state)?;
    assert_eq!(loaded.learning_rate(), 0.5);
    for rate in [0.5, 0.25, 0.25, 0.125] {
        loaded.step(&full(&vars, 0.0))?;
        assert_eq!(loaded.learning_rate(), rate);
    }
    // A schedule's absence is the settings' rate; a rate that is set removes the schedule.
    loaded.set_schedule(None);
    assert_eq!(loaded.learning_rate(), 7.0);
    loaded.set_schedule(Some(schedule));
    assert_eq!(loaded.learning_rate(), schedule.lr(7));
    loaded.set_learning_rate(2.0)?;
    let before = values(&vars[0])[0];
    loaded.step(&full(&vars, 1.0))?;
    assert_eq!((values(&vars[0])[0], loaded.learning_rate()), (before - 2.0, 2.0));
    Ok(())
}

#[test]
fn a_runs_seed_reaches_stochastic_rounding_and_0_changes_nothing() -> Outcome {
    for dtype in [DType::F16, DType::BF16] {
        let run = |own: u64, seeds: &[u64]| -> Result<Vec<f64>, Error> {
            let vars = [var(512, dtype)];
            let write_back = WriteBack::StochasticRounding { seed: own };
            let mut optimizer =
                Sgd::new([("w", vars[0].clone())], SgdConfig { lr: 1e-4, ..Default::default() })?;
            // Before and after the write-back is chosen.
            if let Some(&seed) = seeds.first() {
                optimizer.set_seed(seed);
            }
            let mut optimizer = optimizer.with_write_back(write_back)?;
            if let Some(&seed) = seeds.get(1) {
                optimizer.set_seed(seed);
            }
            for _ in 0..3 {
                optimizer.step(&full(&vars, 1.0))?;
            }
            Ok(values(&vars[0]))
        };
        let plain = run(3, &[])?;
        assert_eq!(run(3, &[0])?, plain);
        assert_eq!(run(3, &[9, 0])?, plain);
        assert_ne!(run(3, &[1])?, plain);
        assert_eq!(run(3, &[1])?, run(3, &[0, 1])?);
        assert_ne!(run(3, &[1])?, run(3, &[2])?);
        // Neither of the two seeds hides the other.
        assert_ne!(run(3, &[1])?, run(4, &[1])?);
        assert_ne!(run(1, &[3])?, run(3, &[1])?);
    }
    Ok(())
}

/// A state does not hold the seed: the run's goes on after a load.
#[test]
fn a_runs_seed_survives_a_load() -> Outcome {
    let vars = [var(512, DType::BF16)];
    let write_back = WriteBack::StochasticRounding { seed: 3 };
    let make = || {
        Sgd::new([("w", vars[0].clone())], SgdConfig { lr: 1e-3, ..Default::default() })?
            .with_write_back(write_back)
    };
    let mut optimizer = make()?;
    optimizer.set_seed(5);
    optimizer.step(&full(&vars, 1.0))?;
    let (state, start) = (optimizer.state_dict()?, vars[0].copy()?);
    optimizer.step(&full(&vars, 1.0))?;
    let straight = values(&vars[0]);
    vars[0].set(&start)?;
    let mut loaded = make()?;
    loaded.set_seed(5);
    loaded.load_state_dict(&state)?;
    loaded.step(&full(&vars, 1.0))?;
    assert_eq!(values(&vars[0]), straight);
    Ok(())
}

#[test]
fn what_can_have_no_effect_is_an_error() -> Outcome {
    let none: [(&str, Var); 0] = [];
    assert!(matches!(Sgd::new(none, SgdConfig::default()), Err(Error::NoParameters)));
    let optimizer = Sgd::new([("weight", var(1, DType::F32))], SgdConfig::default())?;
    let error = optimizer.with_group(Group::default(), |name| name == "wieght").unwrap_err();
    assert!(matches!(&error, Error::EmptyGroup { example, .. } if example == "weight"), "{error}");
    Ok(())
}
