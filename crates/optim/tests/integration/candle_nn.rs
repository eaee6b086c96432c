//! Our optimizers behind candle-nn's trait, for code that is written against that.

use candle_core::{Device, Result, Var};
use candle_nn::Optimizer;
use optim::{AdamW, AdamWConfig, ScaledOptimizer, Schedule, Sgd, SgdConfig};

fn vars() -> Result<Vec<Var>> {
    [1f32, 2.0].iter().map(|&value| Var::new(&[value], &Device::Cpu)).collect()
}

#[test]
fn backward_step_is_our_step() -> Result<()> {
    let (theirs, ours) = (vars()?, vars()?);
    let config = AdamWConfig { lr: 0.1, ..Default::default() };
    let mut behind = <AdamW as Optimizer>::new(theirs.clone(), config)?;
    let names: Vec<&str> = behind.parameters().iter().map(|parameter| parameter.name.as_str()).collect();
    assert_eq!(names, ["0", "1"]);
    let named = ours.iter().enumerate().map(|(index, var)| (index.to_string(), var.clone()));
    let mut plain = AdamW::new(named, config).map_err(candle_core::Error::wrap)?;
    let loss = |vars: &[Var]| (vars[0].as_tensor() * vars[1].as_tensor())?.sqr()?.sum_all();
    for _ in 0..3 {
        behind.backward_step(&loss(&theirs)?)?;
        optim::Optimizer::step(&mut plain, &loss(&ours)?.backward()?).map_err(candle_core::Error::wrap)?;
    }
    for (a, b) in theirs.iter().zip(&ours) {
        assert_eq!(a.to_vec1::<f32>()?, b.to_vec1::<f32>()?);
    }
    Ok(())
}

/// Its trait cannot refuse a rate, so that the step does.
#[test]
fn a_rate_that_is_none_is_an_error_of_the_step() -> Result<()> {
    let vars = vars()?;
    let mut optimizer = <Sgd as Optimizer>::new(vars.clone(), SgdConfig::default())?;
    let loss = || vars[0].sum_all();
    for bad in [f64::NAN, f64::INFINITY, -1.0] {
        optimizer.set_learning_rate(bad);
        let error = optimizer.backward_step(&loss()?).map(|()| "taken").map_err(|error| error.to_string());
        assert!(error.as_ref().is_err_and(|error| error.contains("lr")), "{error:?}");
        assert_eq!(vars[0].to_vec1::<f32>()?, [1.0]);
    }
    // A schedule gives way to a rate that is set.
    let half = Schedule::constant(0.5).map_err(candle_core::Error::wrap)?;
    optim::Optimizer::set_schedule(&mut optimizer, Some(half));
    assert_eq!(optimizer.learning_rate(), 0.5);
    optimizer.set_learning_rate(0.25);
    optimizer.backward_step(&loss()?)?;
    assert_eq!((optimizer.learning_rate(), vars[0].to_vec1::<f32>()?), (0.25, vec![0.75]));
    Ok(())
}

#[test]
fn settings_that_are_refused_are_refused_here_too() -> Result<()> {
    let error = <Sgd as Optimizer>::new(vars()?, SgdConfig { lr: -1.0, ..Default::default() }).map(drop);
    assert!(error.is_err_and(|error| error.to_string().contains("Sgd: lr is -1")));
    Ok(())
}
