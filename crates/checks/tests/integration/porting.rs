//! What a model that was written for candle meets: it trains, or it fails at once and says what to write instead, or the user
//! is told that nothing followed the precision.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::{Arc, Mutex};

use autocast::{nn, ops};
use candle_core::{D, DType, Device, Module, Tensor};
use checks::models::closures::{CPU_PRECISIONS, Closures, builder, module, xy};
use checks::models::ported;
use trainer::{Accelerator, Error, Notice, Strictness, Trainer};

#[test]
fn two_ported_examples_learn_at_every_precision() {
    for precision in CPU_PRECISIONS {
        for (model, first, last) in ported::train_both(precision, Accelerator::Cpu).unwrap() {
            assert!(last < 0.5 * first, "{model} at {precision}: from {first} to {last}");
        }
    }
}

/// Those that are not about the machine.
fn of_the_run(notices: Vec<Notice>) -> Vec<Notice> {
    notices.into_iter().filter(|notice| !matches!(notice, Notice::NoFastProduct { .. })).collect()
}

/// The notices of a fit of one step, which the listener hears of as well.
fn notices<S>(precision: &str, module: &Closures<S>) -> Vec<Notice> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listener = heard.clone();
    let builder = Trainer::builder().precision(precision).accelerator("cpu").max_steps(2);
    let trainer =
        builder.on_notice(move |notice| listener.lock().unwrap().push(notice.clone())).build().unwrap();
    let fit = trainer.fit(module, [xy(), xy()]).unwrap();
    assert_eq!(*heard.lock().unwrap(), fit.notices);
    of_the_run(fit.notices)
}

#[test]
fn a_model_of_candles_own_layers_is_told_that_nothing_followed() {
    let model = module(
        |vb| {
            let first = candle_nn::linear(2, 4, vb.pp("a"))?;
            Ok((first, candle_nn::linear(4, 1, vb.pp("b"))?))
        },
        |(a, b), (x, y)| Ok(candle_nn::loss::mse(&b.forward(&a.forward(x)?.relu()?)?, y)?),
    );
    let told = notices("bf16-mixed", &model);
    assert_eq!(told, [Notice::NothingInFastDtype { precision: trainer::Precision::Bf16Mixed }]);
    assert!(told[0].to_string().contains("autocast::nn"), "{}", told[0]);
    // At a true precision it trains in that precision.
    for precision in ["32-true", "bf16-true", "16-true", "64-true"] {
        assert_eq!(notices(precision, &model), [], "{precision}");
    }
}

#[test]
fn a_loss_of_candles_in_16_bits_is_told() {
    let model = module(
        |vb| Ok(nn::linear(2, 1, vb)?),
        |linear, (x, y)| {
            let y = linear.forward(x)?.sub(&y.to_dtype(DType::BF16)?)?;
            Ok(y.sqr()?.mean_all()?)
        },
    );
    assert_eq!(notices("bf16-mixed", &model), [Notice::NarrowLoss { dtype: DType::BF16 }]);
}

#[test]
fn a_ported_model_of_our_layers_has_nothing_to_be_told() {
    let model = module(
        |vb| Ok(nn::linear(2, 1, vb)?),
        |linear, (x, y)| Ok(ops::mse_loss(&linear.forward(x)?, y, ops::Reduction::Mean)?),
    );
    for precision in CPU_PRECISIONS {
        assert_eq!(notices(precision, &model), [], "{precision}");
    }
}

/// candle's operators between tensors of a region, each of which a port is likely to have left in.
#[test]
fn candles_operators_say_what_to_write_instead() {
    type Step = fn(&nn::Linear, &checks::models::closures::Pair) -> trainer::Result<Tensor>;
    let steps: [(&str, &str, Step); 6] = [
        ("a residual", "ops::add", |l, (x, _)| Ok(ops::sum_all(&(x + l.forward(x)?)?)?)),
        ("a difference", "ops::sub", |l, (x, _)| Ok(ops::sum_all(&(l.forward(x)? - x)?)?)),
        ("a gate", "ops::mul", |l, (x, _)| Ok(ops::sum_all(&x.broadcast_mul(&l.forward(x)?)?)?)),
        ("a quotient", "ops::div", |l, (x, _)| Ok(ops::sum_all(&(x / l.forward(x)?)?)?)),
        ("a product", "ops::matmul", |l, (x, _)| Ok(ops::sum_all(&l.forward(x)?.matmul(&x.t()?)?)?)),
        ("a maximum", "ops::maximum", |l, (x, _)| Ok(ops::sum_all(&x.maximum(&l.forward(x)?)?)?)),
    ];
    for (what, instead, step) in steps {
        let model = module(|vb| Ok(nn::linear(2, 2, vb)?), step);
        let trainer = builder("bf16-mixed").build().unwrap();
        let error = trainer.fit(&model, [xy()]).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::CandleOperator { .. }), "{what}: {text}");
        assert!(text.contains(instead) && text.contains("README"), "{what}: {text}");
        // Where all is of one dtype, candle's operators work.
        for precision in ["32-true", "bf16-true", "64-true"] {
            builder(precision).max_steps(1).build().unwrap().fit(&model, [xy()]).unwrap();
        }
    }
}

/// A table that the model makes in f32, beside 16-bit parameters.
#[test]
fn an_f32_table_works_through_our_ops_and_is_explained_through_candles() {
    type Table = (nn::Embedding, Tensor, nn::Linear);
    let build = |vb: candle_nn::VarBuilder| -> trainer::Result<Table> {
        let table = Tensor::arange(0f32, 8., vb.device())?.reshape((2, 4))?;
        Ok((nn::embedding(5, 4, vb.pp("e"))?, table, nn::linear(4, 1, vb.pp("l"))?))
    };
    let ours = module(build, |(embedding, table, linear), (x, _)| {
        let tokens = embedding.forward(&Tensor::new(&[[0u32, 1], [2, 3]], x.device())?)?;
        let x = ops::add(&tokens, &table.to_dtype(tokens.dtype())?)?;
        Ok(ops::mean_all(&linear.forward(&x)?)?)
    });
    let candles = module(build, |(embedding, table, linear), (x, _)| {
        let tokens = embedding.forward(&Tensor::new(&[[0u32, 1], [2, 3]], x.device())?)?;
        Ok(ops::mean_all(&linear.forward(&tokens.broadcast_add(table)?)?)?)
    });
    for precision in CPU_PRECISIONS {
        let trainer = builder(precision).max_steps(1).build().unwrap();
        trainer.fit(&ours, [xy()]).unwrap();
        let result = trainer.fit(&candles, [xy()]);
        match precision {
            "32-true" | "bf16-mixed" => assert!(result.is_ok(), "{precision}"),
            _ => {
                let error = result.unwrap_err();
                assert!(matches!(error, Error::CandleOperator { .. }), "{precision}: {error}");
            }
        }
    }
}

#[test]
fn settings_without_an_effect_are_told() {
    let model = module(
        |vb| Ok(nn::linear(2, 1, vb)?),
        |linear, (x, y)| Ok(ops::mse_loss(&linear.forward(x)?, y, ops::Reduction::Mean)?),
    );
    let told = |builder: trainer::TrainerBuilder| {
        let fit = builder.max_steps(1).build().unwrap().fit(&model, [xy()]).unwrap();
        of_the_run(fit.notices).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let values = || {
        let of = |dims: &[usize]| Tensor::ones(dims, DType::F64, &Device::Cpu).unwrap();
        [("weight".to_string(), of(&[1, 2])), ("bias".to_string(), of(&[1]))].into_iter().collect()
    };
    let one = |told: Vec<String>, setting: &str| {
        assert!(told.len() == 1 && told[0].starts_with(setting), "{setting}: {told:?}");
    };
    one(told(builder("32-true").seed(1).initial_values(values())), "seed");
    one(told(builder("bf16-mixed").loss_scaling(grad_scaler::ScalerConfig::recommended())), "loss_scaling");
    one(told(builder("64-true").diagnostics(Default::default())), "diagnostics");
    one(told(builder("16-true").on_non_finite(trainer::OnNonFinite::Apply)), "on_non_finite");
    assert_eq!(told(builder("16-true").seed(1).diagnostics(Default::default())), [""; 0]);
    assert_eq!(told(builder("32-true").initial_values(values())), [""; 0]);
}

#[test]
fn a_parameter_that_the_optimizer_was_not_given_is_told() {
    struct Half;
    impl trainer::TrainingModule for Half {
        type Model = nn::Linear;
        type Batch = checks::models::closures::Pair;
        fn build(&self, vb: candle_nn::VarBuilder) -> trainer::Result<nn::Linear> {
            Ok(nn::linear(2, 1, vb)?)
        }
        fn training_step(
            &self,
            linear: &nn::Linear,
            (x, y): &Self::Batch,
            _: &trainer::StepContext,
        ) -> trainer::Result<trainer::StepOutput> {
            Ok(ops::mse_loss(&linear.forward(x)?, y, ops::Reduction::Mean)?.into())
        }
        fn configure_optimizers(&self, all: &trainer::Parameters) -> trainer::Result<trainer::Optimization> {
            let weight = [("weight", all.get("weight").unwrap().clone())];
            Ok(trainer::Optimization::new(optim::Sgd::new(weight, Default::default())?))
        }
    }
    let fit = builder("32-true").max_steps(1).build().unwrap().fit(&Half, [xy()]).unwrap();
    assert_eq!(of_the_run(fit.notices), [Notice::NotOptimized { names: vec!["bias".to_string()] }]);
}

#[test]
fn weights_load_strictly_by_default_and_leniently_on_request() {
    let model = module(
        |vb| Ok(nn::linear(2, 1, vb)?),
        |linear, (x, y)| Ok(ops::mse_loss(&linear.forward(x)?, y, ops::Reduction::Mean)?),
    );
    let one = |name: &str, dims: &[usize]| {
        (name.to_string(), Tensor::ones(dims, DType::F64, &Device::Cpu).unwrap())
    };
    let partial = || [one("weight", &[1, 2])].into_iter().collect();
    let foreign = || {
        [one("weight", &[1, 2]), one("bias", &[1]), one("bn.num_batches_tracked", &[])].into_iter().collect()
    };
    let fit = |builder: trainer::TrainerBuilder| builder.max_steps(1).build().unwrap().fit(&model, [xy()]);
    let missing = fit(builder("32-true").initial_values(partial())).unwrap_err();
    assert!(matches!(&missing, Error::MissingInitialValues { names } if names == &["bias"]), "{missing}");
    let unused = fit(builder("32-true").initial_values(foreign())).unwrap_err();
    assert!(unused.to_string().contains("bn.num_batches_tracked"), "{unused}");
    for (values, missing, unused) in
        [(partial(), vec!["bias"], vec![]), (foreign(), vec![], vec!["bn.num_batches_tracked"])]
    {
        let lenient = fit(builder("16-true").initial_values_with(values, Strictness::Lenient)).unwrap();
        let names = |names: Vec<&str>| names.into_iter().map(str::to_string).collect();
        let expected = Notice::Weights { missing: names(missing), unused: names(unused) };
        assert_eq!(of_the_run(lenient.notices), [expected]);
    }
}

#[test]
fn a_shape_of_another_model_is_an_error_also_when_lenient() {
    let model = module(
        |vb| Ok(nn::linear(2, 1, vb)?),
        |linear, (x, _)| Ok(ops::sum_all(&linear.forward(x)?.squeeze(D::Minus1)?)?),
    );
    let values = [("weight".to_string(), Tensor::ones((3, 2), DType::F32, &Device::Cpu).unwrap())];
    let builder = builder("32-true").initial_values_with(values.into(), Strictness::Lenient);
    let error = builder.build().unwrap().fit(&model, [xy()]).unwrap_err();
    assert!(error.to_string().contains("weight") && error.to_string().contains("[3, 2]"), "{error}");
}

/// A CPU that has to widen 16 bits says so once, and one that has not says nothing.
#[test]
fn a_cpu_without_a_fast_16_bit_product_says_so() {
    let model = module(
        |vb| Ok(nn::linear(2, 1, vb)?),
        |linear, (x, y)| Ok(ops::mse_loss(&linear.forward(x)?, y, ops::Reduction::Mean)?),
    );
    for (precision, dtype) in [("16-true", DType::F16), ("bf16-mixed", DType::BF16), ("32-true", DType::F32)]
    {
        let trainer = builder(precision).max_steps(2).build().unwrap();
        let fit = trainer.fit(&model, [xy(), xy()]).unwrap();
        let told = fit.notices.iter().filter(|notice| matches!(notice, Notice::NoFastProduct { .. })).count();
        let slow = dtype != DType::F32 && !autocast::has_fast_product(dtype, &Device::Cpu);
        assert_eq!(told, usize::from(slow), "{precision}");
    }
}
