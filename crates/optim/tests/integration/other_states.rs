//! States that were saved at another precision or write-back, by PyTorch, or of more or less than the optimizer has.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use optim::{AdamW, AdamWConfig, Error, Optimizer, Strictness, WriteBack};
use std::collections::HashMap;

type Outcome = Result<(), Box<dyn std::error::Error>>;
type State = HashMap<String, Tensor>;

const CPU: Device = Device::Cpu;
const NOTHING: [&str; 0] = [];

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// An optimizer over one parameter, and the parameter.
fn adamw(start: &Tensor, dtype: DType, write_back: WriteBack) -> (AdamW, Var) {
    let var = Var::from_tensor(&start.to_dtype(dtype).unwrap()).unwrap();
    let config = AdamWConfig { lr: 0.01, ..Default::default() };
    let optimizer = AdamW::new([("w", var.clone())], config).unwrap().with_write_back(write_back).unwrap();
    (optimizer, var)
}

fn step(optimizer: &mut AdamW, var: &Var, nth: usize) {
    let grad = [0.3f32, -0.2, 0.7].map(|g| g * (nth as f32 - 1.7));
    let mut store = GradStore::default();
    store.insert(var, Tensor::new(&grad, &CPU).unwrap());
    optimizer.step(&store).unwrap();
}

fn start() -> Tensor {
    Tensor::new(&[1.001f32, -0.501, 0.0123], &CPU).unwrap()
}

/// Three steps in `dtype`: the state, and the parameter.
fn saved(dtype: DType, write_back: WriteBack) -> (State, Var) {
    let (mut optimizer, var) = adamw(&start(), dtype, write_back);
    (0..3).for_each(|nth| step(&mut optimizer, &var, nth));
    (optimizer.state_dict().unwrap(), var)
}

const MASTER: WriteBack = WriteBack::MasterWeights;
const KAHAN: WriteBack = WriteBack::Kahan;
const STOCHASTIC: WriteBack = WriteBack::StochasticRounding { seed: 1 };

#[test]
fn moments_are_rounded_once_between_f32_and_f64_and_counts_go_on() -> Outcome {
    for (from, to) in [(DType::F64, DType::F32), (DType::F32, DType::F64), (DType::F64, DType::BF16)] {
        let (state, var) = saved(from, MASTER);
        let (mut loaded, own) = adamw(&var, to, MASTER);
        let report = loaded.load_state_dict_with(&state, Strictness::Strict)?;
        let masters = if to == DType::BF16 { vec!["w.master"] } else { vec![] };
        assert_eq!(report.converted, ["w.exp_avg", "w.exp_avg_sq"]);
        assert_eq!(report.missing, masters);
        assert!(!report.is_exact() && report.unused.is_empty());
        let now = loaded.state_dict()?;
        for what in ["w.exp_avg", "w.exp_avg_sq"] {
            let arithmetic = if to == DType::F64 { DType::F64 } else { DType::F32 };
            assert_eq!(now[what].dtype(), arithmetic);
            let rounded = |x: &f64| if to == DType::F64 { *x } else { f64::from(*x as f32) };
            assert_eq!(values(&now[what]), values(&state[what]).iter().map(rounded).collect::<Vec<_>>());
        }
        assert_eq!((loaded.steps()?.applied, now["w.step"].to_scalar::<i64>()?), (3, 3));
        step(&mut loaded, &own, 3);
    }
    Ok(())
}

#[test]
fn a_master_is_made_from_the_parameter_and_left_out_where_it_has_no_place() -> Outcome {
    let (state, var) = saved(DType::F32, MASTER);
    for dtype in [DType::F16, DType::BF16] {
        let (mut loaded, own) = adamw(&var, dtype, MASTER);
        let report = loaded.load_state_dict_with(&state, Strictness::Strict)?;
        assert_eq!((&report.missing[..], report.unused.len()), (&["w.master".to_string()][..], 0));
        assert_eq!(values(&loaded.state_dict()?["w.master"]), values(&own));

        for (dtype, write_back) in [(DType::F32, MASTER), (DType::F64, KAHAN), (dtype, STOCHASTIC)] {
            let (state, var) = saved(DType::BF16, MASTER);
            let (mut loaded, _) = adamw(&var, dtype, write_back);
            let report = loaded.load_state_dict_with(&state, Strictness::Strict)?;
            assert_eq!((&report.unused[..], report.missing.len()), (&["w.master".to_string()][..], 0));
            assert!(!loaded.state_dict()?.contains_key("w.master"));
        }
    }
    Ok(())
}

/// What a 16-bit parameter cannot hold survives the change of where it is kept.
#[test]
fn masters_become_compensations_and_back() -> Outcome {
    for dtype in [DType::F16, DType::BF16] {
        let (state, var) = saved(dtype, MASTER);
        let (mut kahan, own) = adamw(&var, dtype, KAHAN);
        let report = kahan.load_state_dict_with(&state, Strictness::Strict)?;
        assert_eq!((&report.converted[..], report.missing.len()), (&["w.master".to_string()][..], 0));
        let lost = values(&kahan.state_dict()?["w.compensation"]);
        assert!(lost.iter().any(|&lost| lost != 0.0));
        // One rounding of what was lost: relative, or in f16 half of the smallest subnormal.
        let roundoff = if dtype == DType::F16 { 2f64.powi(-11) } else { 2f64.powi(-8) };
        let least = if dtype == DType::F16 { 2f64.powi(-25) } else { 0.0 };
        for ((full, stored), lost) in values(&state["w.master"]).iter().zip(values(&own)).zip(&lost) {
            let exact = full - stored;
            assert!((lost - exact).abs() <= roundoff * exact.abs() + least, "{full} {stored} {lost}");
        }
        let (mut back, _) = adamw(&own, dtype, MASTER);
        let report = back.load_state_dict_with(&kahan.state_dict()?, Strictness::Strict)?;
        assert_eq!(report.converted, ["w.compensation"]);
        let sums: Vec<f64> = values(&own).iter().zip(&lost).map(|(w, c)| f64::from((w + c) as f32)).collect();
        assert_eq!(values(&back.state_dict()?["w.master"]), sums);

        // A parameter that was set since it was saved has lost nothing.
        let (mut other, _) = adamw(&Tensor::full(8f32, 3, &CPU)?, dtype, KAHAN);
        other.load_state_dict(&state)?;
        assert_eq!(values(&other.state_dict()?["w.compensation"]), [0.0; 3]);
        // Out of nothing, nothing; and nothing where there is no place.
        let (state, var) = saved(dtype, STOCHASTIC);
        let (mut kahan, _) = adamw(&var, dtype, KAHAN);
        assert_eq!(kahan.load_state_dict_with(&state, Strictness::Strict)?.missing, ["w.compensation"]);
        let (state, var) = saved(dtype, KAHAN);
        let (mut stochastic, _) = adamw(&var, dtype, STOCHASTIC);
        assert_eq!(stochastic.load_state_dict_with(&state, Strictness::Strict)?.unused, ["w.compensation"]);
    }
    Ok(())
}

/// f64 to 16 bits goes through no f32.
#[test]
fn a_compensation_in_f64_is_rounded_once() -> Outcome {
    let (mut state, var) = saved(DType::BF16, KAHAN);
    let above_a_tie = 1.0 + 2f64.powi(-8) + 2f64.powi(-40);
    state.insert("w.compensation".into(), Tensor::new(&[above_a_tie, 0.0, 0.0], &CPU)?);
    let (mut loaded, _) = adamw(&var, DType::BF16, KAHAN);
    assert_eq!(loaded.load_state_dict_with(&state, Strictness::Strict)?.converted, ["w.compensation"]);
    assert_eq!(values(&loaded.state_dict()?["w.compensation"])[0], 1.0 + 2f64.powi(-7));
    Ok(())
}

#[test]
fn counts_may_be_floats_or_of_one_element_and_nothing_else() -> Outcome {
    let (state, var) = saved(DType::F32, MASTER);
    let good = [
        Tensor::new(3f32, &CPU)?,
        Tensor::new(&[3f64], &CPU)?,
        Tensor::new(&[3i64], &CPU)?,
        Tensor::new(3u32, &CPU)?,
        Tensor::new(&[[3u8]], &CPU)?,
        Tensor::new(3f32, &CPU)?.to_dtype(DType::BF16)?,
    ];
    for count in good {
        let mut other = state.clone();
        other.insert("w.step".into(), count.clone());
        let (mut loaded, _) = adamw(&var, DType::F32, MASTER);
        let report = loaded.load_state_dict_with(&other, Strictness::Strict)?;
        assert_eq!(report.converted, ["w.step"]);
        assert_eq!(loaded.state_dict()?["w.step"].to_scalar::<i64>()?, 3);
    }
    let bad = [
        Tensor::new(f32::NAN, &CPU)?,
        Tensor::new(f64::INFINITY, &CPU)?,
        Tensor::new(-1f32, &CPU)?,
        Tensor::new(2.5f64, &CPU)?,
        Tensor::new(1e30f64, &CPU)?,
        Tensor::new(&[3i64, 3], &CPU)?,
        Tensor::zeros(0, DType::F32, &CPU)?,
    ];
    for strictness in [Strictness::Strict, Strictness::Lenient] {
        for count in &bad {
            let mut other = state.clone();
            other.insert("w.step".into(), count.clone());
            let (mut loaded, _) = adamw(&var, DType::F32, MASTER);
            let error = loaded.load_state_dict_with(&other, strictness).unwrap_err();
            assert!(matches!(&error, Error::StateMismatch { key, .. } if key == "w.step"), "{error}");
        }
    }
    Ok(())
}

#[test]
fn a_lenient_load_starts_anew_what_is_not_whole_and_names_both_sides() -> Outcome {
    let vars: Vec<(&str, Var)> =
        ["a", "b", "c"].map(|name| (name, Var::ones(2, DType::BF16, &CPU).unwrap())).into();
    let grads = || {
        let mut store = GradStore::default();
        vars.iter().for_each(|(_, var)| drop(store.insert(var, Tensor::ones(2, DType::F32, &CPU).unwrap())));
        store
    };
    let mut optimizer = AdamW::new(vars.clone(), AdamWConfig::default())?;
    (0..4).try_for_each(|_| optimizer.step(&grads()).map(drop))?;
    let mut state = optimizer.state_dict()?;
    for key in ["applied_steps", "a.exp_avg_sq", "c.master"] {
        state.remove(key);
    }
    state.insert("d.exp_avg".into(), Tensor::zeros(2, DType::F32, &CPU)?);

    let mut loaded = AdamW::new(vars.clone(), AdamWConfig::default())?;
    let error = loaded.load_state_dict(&state).unwrap_err();
    assert!(matches!(error, Error::MissingState { .. }), "{error}");
    assert_eq!(loaded.steps()?.applied, 0);
    let report = loaded.load_state_dict_with(&state, Strictness::Lenient)?;
    assert_eq!(report.missing, ["a.exp_avg_sq", "applied_steps", "c.master"]);
    assert_eq!(report.unused, ["a.exp_avg", "a.master", "a.step", "d.exp_avg"]);
    assert_eq!(report.converted, NOTHING);
    // A moment without the other, or under a count of steps that it has not seen, would be corrected wrongly.
    let now = loaded.state_dict()?;
    assert_eq!((now["a.step"].to_scalar::<i64>()?, values(&now["a.exp_avg"])), (0, vec![0.0; 2]));
    assert_eq!(
        (now["b.step"].to_scalar::<i64>()?, values(&now["b.exp_avg"])),
        (4, values(&state["b.exp_avg"]))
    );
    assert_eq!(values(&now["c.master"]), values(&vars[2].1));
    assert_eq!(loaded.steps()?.applied, 4);
    loaded.step(&grads())?;

    // What is there has to be right, however lenient.
    state.insert("b.exp_avg".into(), Tensor::zeros(3, DType::F32, &CPU)?);
    let error = loaded.load_state_dict_with(&state, Strictness::Lenient).unwrap_err();
    assert!(matches!(error, Error::StateMismatch { key, .. } if key == "b.exp_avg"));
    Ok(())
}

#[test]
fn the_state_of_the_same_optimizer_is_exact() -> Outcome {
    for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
        for write_back in [MASTER, KAHAN, STOCHASTIC] {
            let (state, var) = saved(dtype, write_back);
            for strictness in [Strictness::Strict, Strictness::Lenient] {
                let (mut loaded, _) = adamw(&var, dtype, write_back);
                assert!(loaded.load_state_dict_with(&state, strictness)?.is_exact());
            }
        }
    }
    Ok(())
}
