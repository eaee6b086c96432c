//! Batches, losses and data that are not as they should be: what was trained is kept, and the user is told.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use autocast::{nn, ops};
use candle_core::{DType, Device, Module, Tensor};
use checks::models::closures::{CPU_PRECISIONS, Closures, Pair, builder, module, numbers, xy};
use grad_scaler::{ScalerConfig, StepOutcome};
use trainer::{Error, Fit, OnNonFinite};

fn line() -> Closures<nn::Linear> {
    module(
        |vb| Ok(nn::linear(2, 1, vb)?),
        |linear, (x, y)| Ok(ops::mse_loss(&linear.forward(x)?, y, ops::Reduction::Mean)?),
    )
}

/// A loss scale at which nothing overflows that is finite without it.
fn modest_scale() -> ScalerConfig {
    ScalerConfig { init_scale: 128., is_static: true, ..ScalerConfig::recommended() }
}

fn nan() -> Pair {
    let (x, y) = xy();
    ((x * f64::NAN).unwrap(), y)
}

/// Six batches, `bad` in the place of the third.
fn with(bad: Pair) -> impl Iterator<Item = Pair> {
    (0..6).map(move |at| if at == 2 { bad.clone() } else { xy() })
}

fn all_finite<S>(fit: &Fit<S>) -> bool {
    fit.parameters.iter().all(|(_, var)| numbers(var).iter().all(|value| value.is_finite()))
}

#[test]
fn a_bad_batch_is_skipped_and_training_goes_on_as_without_it() {
    for precision in CPU_PRECISIONS {
        let trainer = builder(precision).loss_scaling(modest_scale()).build().unwrap();
        let fit = trainer.fit(&line(), with(nan())).unwrap();
        let clean = trainer.fit(&line(), with(xy()).take(5)).unwrap();
        assert_eq!((fit.losses.len(), fit.skipped_steps), (6, 1), "{precision}");
        assert!(fit.losses[2].is_nan() && all_finite(&fit), "{precision}");
        let others = [&fit.losses[..2], &fit.losses[3..]].concat();
        assert_eq!(others, clean.losses, "{precision}");
        for ((name, a), (_, b)) in fit.parameters.iter().zip(clean.parameters.iter()) {
            assert_eq!(numbers(a), numbers(b), "{precision}: {name}");
        }
    }
}

#[test]
fn a_fit_that_is_to_stop_stops_and_keeps_what_was_trained() {
    for precision in CPU_PRECISIONS {
        let trainer = builder(precision).on_non_finite(OnNonFinite::Stop).build().unwrap();
        let error = trainer.fit(&line(), with(nan())).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("after 2 batches") && text.contains("loss NaN"), "{precision}: {text}");
        let Error::Stopped { step: 2, fit, source } = error else { panic!("{precision}: {text}") };
        let Error::NonFinite { parameters, .. } = *source else { panic!("{precision}: {text}") };
        assert_eq!(parameters, ["bias", "weight"], "{precision}");
        assert_eq!(fit.losses.len(), 2, "{precision}");
        assert!(all_finite(&fit), "{precision}");
    }
}

#[test]
fn overflow_while_the_loss_scale_is_found_does_not_stop() {
    let scaling = ScalerConfig {
        init_scale: 2f64.powi(30),
        backoff_factor: 0.25,
        growth_interval: 1_000,
        ..Default::default()
    };
    let builder = builder("16-true").loss_scaling(scaling).max_steps(12).on_non_finite(OnNonFinite::Stop);
    let fit = builder.build().unwrap().fit(&line(), std::iter::repeat(xy())).unwrap();
    assert!(fit.skipped_steps > 2 && fit.skipped_steps < 12, "{}", fit.skipped_steps);
}

#[test]
fn a_step_is_applied_where_the_user_asks_for_it() {
    for precision in ["32-true", "bf16-mixed", "bf16-true", "64-true"] {
        let trainer = builder(precision).on_non_finite(OnNonFinite::Apply).build().unwrap();
        let fit = trainer.fit(&line(), with(nan())).unwrap();
        assert_eq!(fit.skipped_steps, 0, "{precision}");
        assert!(!all_finite(&fit), "{precision}");
    }
}

/// Finite statistics, and gradients that overflow: the step is skipped after the forward pass has seen nothing wrong.
#[test]
fn a_skipped_step_leaves_no_trace_in_running_statistics() {
    let normed = || {
        module(
            |vb| Ok((nn::linear(2, 2, vb.pp("l"))?, nn::batch_norm(2, 1e-5, vb.pp("bn"))?)),
            |(linear, norm), (x, y)| {
                let x = norm.forward_by_mode(&linear.forward(x)?)?.narrow(1, 0, 1)?;
                Ok(ops::mse_loss(&x, y, ops::Reduction::Mean)?)
            },
        )
    };
    let statistics = |fit: &Fit<(nn::Linear, nn::BatchNorm)>| {
        ["bn.running_mean", "bn.running_var"].map(|name| numbers(fit.parameters.get(name).unwrap()))
    };
    // Every step of this scale overflows.
    let scaling = ScalerConfig { init_scale: 2f64.powi(60), is_static: true, ..ScalerConfig::recommended() };
    let trainer = builder("16-true").loss_scaling(scaling).max_steps(3).build().unwrap();
    let fit = trainer.fit(&normed(), std::iter::repeat(xy())).unwrap();
    assert_eq!(fit.skipped_steps, 3);
    assert_eq!(statistics(&fit), [vec![0., 0.], vec![1., 1.]]);

    // A target that is infinite spoils the gradients alone.
    for precision in CPU_PRECISIONS {
        let (x, y) = xy();
        let trainer = builder(precision).loss_scaling(modest_scale()).build().unwrap();
        let fit = trainer.fit(&normed(), with((x, (y * f64::INFINITY).unwrap()))).unwrap();
        let clean = trainer.fit(&normed(), with(xy()).take(5)).unwrap();
        assert_eq!(fit.skipped_steps, 1, "{precision}");
        assert_eq!(statistics(&fit), statistics(&clean), "{precision}");
    }
}

#[test]
fn infinite_activations_do_not_reach_running_statistics_even_where_the_step_is_applied() {
    let module = module(
        |vb| Ok((nn::batch_norm(2, 1e-5, vb.pp("bn"))?, nn::linear(2, 1, vb.pp("l"))?)),
        |(norm, linear), (x, y)| {
            Ok(ops::mse_loss(&linear.forward(&norm.forward_train(x)?)?, y, ops::Reduction::Mean)?)
        },
    );
    let trainer = builder("32-true").on_non_finite(OnNonFinite::Apply).build().unwrap();
    let fit =
        trainer.fit(&module, with((Tensor::full(f32::INFINITY, (4, 2), &Device::Cpu).unwrap(), xy().1)));
    let running = fit.unwrap().parameters.get("bn.running_mean").unwrap().clone();
    assert!(numbers(&running).iter().all(|mean| mean.is_finite() && *mean != 0.), "{running}");
}

#[test]
fn a_batch_without_a_loss_takes_no_step() {
    let loss_of = |linear: &nn::Linear, (x, y): &Pair| {
        if x.dim(0)? == 1 {
            return Err(Error::NoLoss);
        }
        Ok(ops::mse_loss(&linear.forward(x)?, y, ops::Reduction::Mean)?)
    };
    let module = module(|vb| Ok(nn::linear(2, 1, vb)?), loss_of);
    let (x, y) = xy();
    let short = (x.narrow(0, 0, 1).unwrap(), y.narrow(0, 0, 1).unwrap());
    let trainer = builder("bf16-mixed").build().unwrap();
    let mut numbers = Vec::new();
    let fit = trainer.fit_with(&module, with(short.clone()), |step| {
        numbers.push(step.number());
        Ok(())
    });
    let clean = trainer.fit(&line(), with(xy()).take(5)).unwrap();
    assert_eq!(fit.unwrap().losses, clean.losses);
    assert_eq!(numbers, [1, 2, 4, 5, 6]);
    let error = trainer.fit(&module, [short.clone(), short]).unwrap_err();
    assert!(matches!(error, Error::NothingTrained { batches: 2 }), "{error}");
}

#[test]
fn an_error_of_the_callback_the_step_or_the_data_keeps_what_was_trained() {
    let trainer = builder("32-true").build().unwrap();
    let straight = trainer.fit(&line(), with(xy()).take(3)).unwrap();
    let check = |what: &str, error: Error| {
        assert!(error.to_string().contains(what), "{error}");
        let fit = error.into_fit().unwrap();
        assert_eq!(fit.losses, straight.losses, "{what}");
        for ((_, a), (_, b)) in fit.parameters.iter().zip(straight.parameters.iter()) {
            assert_eq!(numbers(a), numbers(b), "{what}");
        }
        // And it can be gone on from.
        let rest = builder("32-true").max_steps(6).resume(fit.state().unwrap()).build().unwrap();
        let rest = rest.fit(&line(), with(xy()).skip(3)).unwrap();
        let whole = trainer.fit(&line(), with(xy())).unwrap();
        assert_eq!(rest.losses, whole.losses[3..], "{what}");
    };
    let callback = trainer.fit_with(&line(), with(xy()), |step| match step.number() {
        3 => Err(Error::Other("early stopping".into())),
        _ => Ok(()),
    });
    check("early stopping", callback.unwrap_err());

    // A batch of other columns in the fourth place.
    let odd = (Tensor::zeros((4, 3), DType::F32, &Device::Cpu).unwrap(), xy().1);
    let data = (0..6).map(|at| if at == 3 { odd.clone() } else { xy() });
    check("linear", trainer.fit(&line(), data).unwrap_err());

    let data = (0..6).map(|at| match at {
        3 => Err(Error::Other("the disk is gone".into())),
        _ => Ok(xy()),
    });
    check("the disk is gone", trainer.fit(&line(), data).unwrap_err());
}

#[test]
fn no_data_is_an_error() {
    let trainer = builder("32-true").build().unwrap();
    let error = trainer.fit(&line(), Vec::<Pair>::new()).unwrap_err();
    assert!(matches!(error, Error::NoData { what: "fit" }), "{error}");
}

#[test]
fn a_loss_of_one_element_in_any_shape_is_a_loss() {
    for shape in [vec![], vec![1], vec![1, 1, 1]] {
        let scalar = line();
        let trainer = builder("16-true").max_steps(5).build().unwrap();
        let expected = trainer.fit(&scalar, with(xy())).unwrap();
        let shaped = module(
            |vb| Ok((nn::linear(2, 1, vb)?, SHAPE.take())),
            |(linear, shape), (x, y)| {
                let loss = ops::mse_loss(&linear.forward(x)?, y, ops::Reduction::Mean)?;
                Ok(loss.reshape(shape.as_slice())?)
            },
        );
        SHAPE.set(shape.clone());
        let mut read = Vec::new();
        let fit = trainer.fit_with(&shaped, with(xy()), |step| {
            read.push(step.loss()?);
            Ok(())
        });
        let fit = fit.unwrap();
        assert_eq!(fit.losses, expected.losses, "{shape:?}");
        assert_eq!(read, expected.losses, "{shape:?}");
        let evaluated = trainer.validate(&shaped, &fit.model, [xy()]).unwrap();
        assert_eq!(evaluated, trainer.validate(&scalar, &expected.model, [xy()]).unwrap());
    }
}

thread_local! {
    static SHAPE: std::cell::Cell<Vec<usize>> = const { std::cell::Cell::new(Vec::new()) };
}

#[test]
fn a_loss_that_is_no_float_is_refused() {
    let module = module(|vb| Ok(nn::linear(2, 1, vb)?), |_, (x, _)| Ok(x.to_dtype(DType::U32)?.sum_all()?));
    let error = builder("32-true").build().unwrap().fit(&module, [xy()]).unwrap_err();
    assert!(matches!(error, Error::NotOneNumber { dtype: DType::U32, .. }), "{error}");
}

#[test]
fn batches_of_any_float_dtype_train_at_every_precision() {
    let (x, y) = xy();
    for precision in CPU_PRECISIONS {
        let trainer = builder(precision).max_steps(3).build().unwrap();
        let expected = trainer.fit(&line(), with(xy())).unwrap().losses;
        for dtype in [DType::F64, DType::F16, DType::BF16] {
            let batch = (x.to_dtype(dtype).unwrap(), y.to_dtype(dtype).unwrap());
            let fit = trainer.fit(&line(), std::iter::repeat(batch)).unwrap();
            assert_eq!(fit.losses, expected, "{dtype:?} at {precision}");
        }
    }
}

#[test]
fn the_norm_of_a_skipped_step_is_its_own() {
    for precision in CPU_PRECISIONS {
        let (mut norms, mut skipped) = (Vec::new(), Vec::new());
        let trainer = builder(precision).loss_scaling(modest_scale()).build().unwrap();
        let fit = trainer.fit_with(&line(), with(nan()), |step| {
            norms.push(step.grad_norm().unwrap());
            skipped.push(matches!(step.outcome(), StepOutcome::Skipped { .. }));
            Ok(())
        });
        fit.unwrap();
        for (step, (norm, skipped)) in norms.iter().zip(skipped).enumerate() {
            assert_eq!((norm.is_finite(), skipped), (step != 2, step == 2), "{precision}: {norms:?}");
        }
    }
}
