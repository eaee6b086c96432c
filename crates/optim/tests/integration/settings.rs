//! What an optimizer refuses, and what groups, clipping and missing gradients do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use optim::{
    Adam, AdamConfig, AdamW, AdamWConfig, Clip, Error, Group, Lion, LionConfig, Momentum, Optimizer,
    ScaledOptimizer, Schedule, Sgd, SgdConfig, WriteBack, clip_grad_norm, clip_grad_value, named_parameters,
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn var(values: &[f32]) -> Var {
    Var::new(values, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn grads(entries: &[(&Var, &[f32])]) -> GradStore {
    let mut store = GradStore::default();
    for (var, grad) in entries {
        store.insert(var, Tensor::new(*grad, &Device::Cpu).unwrap());
    }
    store
}

fn sgd(parameters: &[(&str, &Var)]) -> Result<Sgd, Error> {
    let named = parameters.iter().map(|(name, var)| (*name, (*var).clone()));
    Sgd::new(named, SgdConfig { lr: 0.5, ..Default::default() })
}

fn refused<T>(result: Result<T, Error>, expected: &str) {
    match result {
        Err(Error::InvalidSetting { argument, .. }) => assert_eq!(argument, expected),
        Err(other) => panic!("{expected}: {other}"),
        Ok(_) => panic!("{expected} was accepted"),
    }
}

#[test]
fn settings_outside_their_range_are_refused_by_name() -> Outcome {
    let weight = var(&[1.0]);
    let named = || [("w", weight.clone())];
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        refused(AdamW::new(named(), AdamWConfig { lr: bad, ..Default::default() }), "lr");
        refused(Adam::new(named(), AdamConfig { eps: bad, ..Default::default() }), "eps");
        refused(Lion::new(named(), LionConfig { weight_decay: bad, ..Default::default() }), "weight_decay");
        refused(AdamW::new(named(), AdamWConfig { betas: (bad, 0.9), ..Default::default() }), "beta1");
        let momentum = Momentum::Nesterov { momentum: bad };
        refused(Sgd::new(named(), SgdConfig { momentum, ..Default::default() }), "momentum");
        refused(Clip::norm(bad), "max_norm");
        refused(Clip::value(bad), "clip value");
        refused(clip_grad_norm(&[], &mut GradStore::default(), bad), "max_norm");
        refused(clip_grad_value(&[], &mut GradStore::default(), bad), "clip value");
        refused(sgd(&[("w", &weight)])?.set_learning_rate(bad), "lr");
        let group = Group { lr_scale: bad, ..Default::default() };
        refused(sgd(&[("w", &weight)])?.with_group(group, |_| true), "lr_scale");
        refused(Schedule::constant(bad), "lr");
        refused(Schedule::cosine(0.1, 10)?.with_min_lr(bad), "min_lr");
    }
    refused(AdamW::new(named(), AdamWConfig { betas: (0.9, 1.0), ..Default::default() }), "beta2");
    refused(Schedule::cosine(0.1, 0), "steps");
    refused(Schedule::step(0.1, 0, 0.5), "every");
    refused(Schedule::step(0.1, 1, 1.5), "factor");
    refused(Schedule::one_cycle(0.1, 0), "steps");
    refused(Schedule::constant(0.1)?.with_min_lr(0.0), "min_lr");
    Ok(())
}

fn bad_parameter<T>(result: Result<T, Error>, expected: &str) {
    match result {
        Err(Error::BadParameter { name, .. }) => assert_eq!(name, expected),
        Err(other) => panic!("{expected}: {other}"),
        Ok(_) => panic!("{expected} was accepted"),
    }
}

#[test]
fn parameters_that_cannot_be_updated_are_refused_by_name() -> Outcome {
    let (one, two) = (var(&[1.0]), var(&[1.0]));
    bad_parameter(sgd(&[("a", &one), ("a", &two)]), "a");
    bad_parameter(sgd(&[("a", &one), ("tied", &one)]), "tied");
    let integers = Var::from_tensor(&Tensor::new(&[1u32], &Device::Cpu)?)?;
    bad_parameter(sgd(&[("a", &one), ("n", &integers)]), "n");
    Ok(())
}

#[test]
fn gradients_that_do_not_fit_are_refused_by_name_and_nothing_moves() -> Outcome {
    let (left, right) = (var(&[1.0, 1.0]), var(&[1.0, 1.0]));
    let mut optimizer = sgd(&[("left", &left), ("right", &right)])?;
    let bad = [
        Tensor::new(&[1f32, 1.0, 1.0], &Device::Cpu)?,
        Tensor::new(&[[1f32, 1.0]], &Device::Cpu)?,
        Tensor::new(&[1i64, 1], &Device::Cpu)?,
    ];
    for grad in bad {
        let mut store = grads(&[(&left, &[1.0, 1.0])]);
        store.insert(&right, grad);
        let error = optimizer.step(&store).unwrap_err();
        assert!(matches!(&error, Error::BadGradient { name, .. } if name == "right"), "{error}");
        assert_eq!(values(&left), [1.0, 1.0]);
        assert_eq!(optimizer.steps()?.applied, 0);
    }
    Ok(())
}

#[test]
fn a_parameter_without_a_gradient_stays_and_is_named() -> Outcome {
    let (used, unused) = (var(&[1.0]), var(&[1.0]));
    let config = AdamWConfig { lr: 0.1, ..Default::default() };
    let mut optimizer = AdamW::new([("used", used.clone()), ("unused", unused.clone())], config)?;
    let store = grads(&[(&used, &[1.0])]);
    assert_eq!(optimizer.without_gradient(&store), ["unused"]);
    optimizer.step(&store)?;
    assert!(values(&used)[0] < 1.0);
    // Not even weight decay touches it, and its own step count has not begun.
    assert_eq!(values(&unused), [1.0]);
    let state = optimizer.state_dict()?;
    assert_eq!(state["used.step"].to_scalar::<i64>()?, 1);
    assert_eq!(state["unused.step"].to_scalar::<i64>()?, 0);
    Ok(())
}

/// A gradient that shares the parameter's memory cannot be read while the parameter is written.
#[test]
fn a_gradient_in_a_parameters_memory_is_read_before_anything_moves() -> Outcome {
    let (left, right) = (var(&[1.0, 2.0]), var(&[3.0, 4.0]));
    let mut optimizer = sgd(&[("left", &left), ("right", &right)])?;
    let mut store = GradStore::default();
    store.insert(&left, right.as_tensor().clone());
    store.insert(&right, right.as_tensor().clone());
    optimizer.step(&store)?;
    assert_eq!((values(&left), values(&right)), (vec![-0.5, 0.0], vec![1.5, 2.0]));
    // A view of it, in another order.
    let square = Var::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
    let mut store = GradStore::default();
    store.insert(&square, square.t()?);
    sgd(&[("square", &square)])?.step(&store)?;
    assert_eq!(values(&square), [0.5, 0.5, 2.0, 2.0]);
    Ok(())
}

#[test]
fn gradients_of_every_dtype_and_layout_are_taken() -> Outcome {
    for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
        for of in [DType::F16, DType::BF16, DType::F32, DType::F64] {
            let start = Tensor::new(&[[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]], &Device::Cpu)?;
            let weight = Var::from_tensor(&start.to_dtype(dtype)?)?;
            let mut optimizer = sgd(&[("w", &weight)])?;
            let grad = Tensor::new(&[[2f32, 8.0], [4.0, 10.0], [6.0, 12.0]], &Device::Cpu)?;
            let mut store = GradStore::default();
            store.insert(&weight, grad.to_dtype(of)?.t()?);
            optimizer.step(&store)?;
            assert_eq!(values(&weight), [0.0; 6], "{dtype:?} with a gradient in {of:?}");
        }
    }
    Ok(())
}

#[test]
fn thousands_of_tiny_parameters_and_empty_ones_are_each_updated() -> Outcome {
    let vars: Vec<Var> = (0..3000).map(|i| var(&vec![i as f32; i % 5])).collect();
    let named = vars.iter().enumerate().map(|(i, var)| (format!("p{i}"), var.clone()));
    let config = SgdConfig { lr: 0.5, ..Default::default() };
    let mut optimizer = Sgd::new(named, config)?.with_clip(Clip::norm(1e12)?);
    let mut store = GradStore::default();
    for var in &vars {
        store.insert(var, var.as_tensor().copy()?);
    }
    optimizer.step(&store)?;
    for (i, var) in vars.iter().enumerate() {
        assert_eq!(values(var), vec![i as f32 / 2.0; i % 5]);
    }
    Ok(())
}

#[test]
fn groups_have_their_own_rate_and_decay() -> Outcome {
    let (weight, bias, head) = (var(&[1.0]), var(&[1.0]), var(&[1.0]));
    let config = SgdConfig { lr: 1.0, weight_decay: 0.5, ..Default::default() };
    let named = [("weight", weight.clone()), ("bias", bias.clone()), ("head", head.clone())];
    let mut optimizer = Sgd::new(named, config)?
        .no_decay(|name| name.ends_with("bias"))
        .with_group(Group { lr_scale: 0.5, weight_decay: Some(1.0) }, |name| name == "head")?;
    optimizer.step(&grads(&[(&weight, &[0.0]), (&bias, &[0.0]), (&head, &[0.0])]))?;
    assert_eq!((values(&weight), values(&bias), values(&head)), (vec![0.5], vec![1.0], vec![0.5]));
    // A schedule moves every group.
    optimizer.set_learning_rate(0.0)?;
    optimizer.step(&grads(&[(&weight, &[1.0]), (&bias, &[1.0]), (&head, &[1.0])]))?;
    assert_eq!((values(&weight), values(&bias), values(&head)), (vec![0.5], vec![1.0], vec![0.5]));
    Ok(())
}

#[test]
fn clipping_inside_the_step_is_clipping_before_it() -> Outcome {
    let gradient: [&[f32]; 2] = [&[3.0, 0.0], &[0.0, -4.0]];
    for clip in [Clip::norm(1.0)?, Clip::norm(100.0)?, Clip::value(2.0)?] {
        let inside = [var(&[0.0, 0.0]), var(&[0.0, 0.0])];
        let mut optimizer = sgd(&[("a", &inside[0]), ("b", &inside[1])])?.with_clip(clip);
        optimizer.step(&grads(&[(&inside[0], gradient[0]), (&inside[1], gradient[1])]))?;

        let before = [var(&[0.0, 0.0]), var(&[0.0, 0.0])];
        let mut plain = sgd(&[("a", &before[0]), ("b", &before[1])])?;
        let mut store = grads(&[(&before[0], gradient[0]), (&before[1], gradient[1])]);
        let parameters = optim::ScaledOptimizer::parameters(&plain).to_vec();
        let expected: [f32; 2] = if clip == Clip::value(2.0)? {
            clip_grad_value(&parameters, &mut store, 2.0)?;
            [-1.0, 1.0]
        } else {
            let max_norm = if clip == Clip::norm(1.0)? { 1.0 } else { 100.0 };
            assert_eq!(clip_grad_norm(&parameters, &mut store, max_norm)?, 5.0);
            assert_eq!(optimizer.grad_norm(), Some(5.0));
            if max_norm < 5.0 { [-0.3, 0.4] } else { [-1.5, 2.0] }
        };
        plain.step(&store)?;
        for (a, b) in inside.iter().zip(&before) {
            assert_eq!(values(a), values(b));
        }
        assert!((values(&inside[0])[0] - expected[0]).abs() < 1e-6);
        assert!((values(&inside[1])[1] - expected[1]).abs() < 1e-6);
    }
    Ok(())
}

#[test]
fn write_back_is_chosen_before_the_first_step() -> Outcome {
    let weight = var(&[1.0]);
    let mut optimizer = sgd(&[("w", &weight)])?;
    optimizer.step(&grads(&[(&weight, &[1.0])]))?;
    let error = optimizer.with_write_back(WriteBack::Kahan).unwrap_err();
    assert!(matches!(error, Error::AlreadyStepped { steps: 1, .. }), "{error}");
    Ok(())
}

#[test]
fn a_var_maps_parameters_come_in_the_order_of_their_names() -> Outcome {
    let map = candle_nn::VarMap::new();
    let builder = candle_nn::VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    for name in ["b", "c", "a"] {
        builder.get(2, name)?;
    }
    let names: Vec<String> = named_parameters(&map).into_iter().map(|p| p.name).collect();
    assert_eq!(names, ["a", "b", "c"]);
    Ok(())
}

#[test]
fn warm_up_rises_in_a_line_and_hands_over() -> Outcome {
    let schedule = Schedule::step(1.0, 2, 0.5)?.with_warmup(4);
    let rates: Vec<f64> = (0..9).map(|step| schedule.lr(step)).collect();
    assert_eq!(rates, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25]);
    let linear = Schedule::linear_warmup(2.0, 2)?;
    assert_eq!([linear.lr(0), linear.lr(1), linear.lr(2), linear.lr(u64::MAX)], [1.0, 2.0, 2.0, 2.0]);
    for schedule in [Schedule::cosine(1.0, 3)?.with_min_lr(0.1)?, Schedule::one_cycle(1.0, 3)?] {
        assert_eq!(schedule.lr(3), schedule.lr(u64::MAX));
    }
    // One step is too short for a cycle, but not an error.
    assert_eq!(Schedule::one_cycle(1.0, 1)?.lr(0), 1.0);
    Ok(())
}
