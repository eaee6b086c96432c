//! `validate`, `test`, `predict` and `infer` use a model and change nothing in it.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use autocast::{Mode, nn, ops};
use candle_core::{DType, Device, Module, Tensor};
use candle_nn::VarBuilder;
use checks::models::closures::{CPU_PRECISIONS, Pair, builder, module, numbers, xy};
use trainer::{Error, Optimization, Parameters, StepContext, StepOutput, TrainingModule};

fn mse(prediction: &Tensor, y: &Tensor) -> trainer::Result<Tensor> {
    Ok(ops::mse_loss(prediction, y, ops::Reduction::Mean)?)
}

/// The data far away from those that were trained on, whose statistics would show.
fn far() -> Pair {
    let (x, y) = xy();
    ((x + 100.).unwrap(), y)
}

type Normed = (nn::BatchNorm, nn::Linear);

fn normed(vb: VarBuilder) -> trainer::Result<Normed> {
    Ok((nn::batch_norm(2, 1e-5, vb.pp("norm"))?, nn::linear(2, 1, vb.pp("linear"))?))
}

#[test]
fn evaluation_moves_no_running_statistic_however_the_layer_is_called() {
    let by_mode =
        module(normed, |(norm, linear), (x, y)| mse(&linear.forward(&norm.forward_by_mode(x)?)?, y));
    let always = module(normed, |(norm, linear), (x, y)| mse(&linear.forward(&norm.forward_train(x)?)?, y));
    for module in [by_mode, always] {
        let trainer = builder("32-true").max_steps(3).build().unwrap();
        let fit = trainer.fit(&module, std::iter::repeat(xy())).unwrap();
        let all =
            |parameters: &Parameters| parameters.iter().flat_map(|(_, var)| numbers(var)).collect::<Vec<_>>();
        let before = all(&fit.parameters);
        assert!(fit.parameters.get("norm.running_mean").unwrap().to_vec1::<f32>().unwrap()[0] != 0.);
        trainer.validate(&module, &fit.model, [far()]).unwrap();
        trainer.test(&module, &fit.model, [far()]).unwrap();
        trainer.predict(&module, &fit.model, [far()]).unwrap();
        assert_eq!(all(&fit.parameters), before);
    }
}

#[test]
fn evaluation_normalises_with_the_running_statistics_and_drops_nothing() {
    let module = module(
        |vb| Ok((normed(vb)?, nn::Dropout::new(0.5))),
        |((norm, linear), dropout), (x, y)| {
            mse(&linear.forward(&dropout.forward_by_mode(&norm.forward_by_mode(x)?)?)?, y)
        },
    );
    let trainer = builder("32-true").max_steps(3).build().unwrap();
    let fit = trainer.fit(&module, std::iter::repeat(xy())).unwrap();
    let ((norm, linear), _) = &fit.model;
    let (x, y) = xy();
    let expected = mse(&linear.forward(&norm.forward_eval(&x).unwrap()).unwrap(), &y).unwrap();
    let metrics = trainer.validate(&module, &fit.model, [(x, y)]).unwrap();
    assert_eq!(metrics.get("val_loss"), Some(f64::from(expected.to_scalar::<f32>().unwrap())));
    assert_eq!(autocast::mode(), Mode::Train);
}

#[test]
fn a_layer_that_is_told_to_drop_drops_the_same_in_every_evaluation() {
    let module = module(
        |vb| Ok((nn::linear(2, 1, vb)?, nn::Dropout::new(0.5))),
        |(linear, dropout), (x, y)| mse(&linear.forward(&dropout.forward(x, true)?)?, y),
    );
    let trainer = builder("32-true").max_steps(1).build().unwrap();
    let fit = trainer.fit(&module, [xy()]).unwrap();
    let twice = [(); 2].map(|()| trainer.validate(&module, &fit.model, [xy(), far()]).unwrap());
    assert_eq!(twice[0], twice[1]);
}

#[test]
fn samples_weigh_the_same_in_batches_of_any_size() {
    let module = module(|vb| Ok(nn::linear(2, 1, vb)?), |linear, (x, y)| mse(&linear.forward(x)?, y));
    let trainer = builder("64-true").max_steps(1).build().unwrap();
    let fit = trainer.fit(&module, [xy()]).unwrap();
    let (x, y) = xy();
    let validate =
        |data: Vec<Pair>| trainer.validate(&module, &fit.model, &data).unwrap().get("val_loss").unwrap();
    let part = |from, len| (x.narrow(0, from, len).unwrap(), y.narrow(0, from, len).unwrap());
    let whole = validate(vec![(x.clone(), y.clone())]);
    for parts in [vec![part(0, 3), part(3, 1)], vec![part(0, 1), part(1, 2), part(3, 1)]] {
        let loss = validate(parts);
        assert!((loss - whole).abs() < 1e-14 * whole.abs(), "{loss} for {whole}");
    }
}

#[test]
fn a_validation_step_of_its_own_is_used_and_nothing_to_evaluate_is_an_error() {
    struct Validated;
    impl TrainingModule for Validated {
        type Model = ();
        type Batch = Tensor;
        fn build(&self, _: VarBuilder) -> trainer::Result<()> {
            Ok(())
        }
        fn training_step(&self, (): &(), _: &Tensor, _: &StepContext) -> trainer::Result<StepOutput> {
            Err(Error::NoLoss)
        }
        fn validation_step(&self, (): &(), x: &Tensor, _: &StepContext) -> trainer::Result<StepOutput> {
            if x.dim(0)? == 3 { Err(Error::NoLoss) } else { Ok(ops::mean_all(x)?.into()) }
        }
        fn configure_optimizers(&self, _: &Parameters) -> trainer::Result<Optimization> {
            unreachable!("nothing is trained")
        }
    }
    let trainer = builder("32-true").build().unwrap();
    let ones = |len: usize| Tensor::ones(len, DType::F32, &Device::Cpu).unwrap();
    let metrics = trainer.validate(&Validated, &(), [ones(2), ones(3), ones(1)]).unwrap();
    assert_eq!(metrics.get("val_loss"), Some(1.));
    for nothing in [vec![], vec![ones(3)], vec![ones(0)]] {
        let error = trainer.validate(&Validated, &(), nothing).unwrap_err();
        assert!(matches!(error, Error::NoData { what: "validate" }), "{error}");
    }
}

#[test]
fn predictions_leave_in_the_output_dtype() {
    for precision in CPU_PRECISIONS {
        let module = module(|vb| Ok(nn::linear(2, 1, vb)?), |linear, (x, y)| mse(&linear.forward(x)?, y));
        let trainer = builder(precision).max_steps(1).build().unwrap();
        let fit = trainer.fit(&module, [xy()]).unwrap();
        let (x, _) = trainer.prepare(xy()).unwrap();
        let expected: DType = trainer.precision().output_dtype().into();
        let inside: DType = trainer.precision().compute_dtype().into();
        let forward = || {
            let y = fit.model.forward(&x)?;
            assert_eq!(y.dtype(), inside, "{precision}");
            assert!(!y.track_op(), "{precision}");
            Ok((vec![y.clone()], Some(y), Tensor::new(&[1u32], &Device::Cpu)?, 0.5))
        };
        let (list, one, ids, number) = trainer.infer(forward).unwrap();
        assert_eq!((list[0].dtype(), one.unwrap().dtype()), (expected, expected), "{precision}");
        assert_eq!((ids.dtype(), number), (DType::U32, 0.5));
    }
}

/// What a batch is predicted as, and how many casts of parameters were made until then.
#[test]
fn predictions_cast_each_parameter_once_and_again_after_it_was_written_to() {
    let module = module(
        |vb| Ok(nn::linear_no_bias(2, 1, vb)?),
        |linear: &nn::Linear, (x, _)| {
            let said = linear.forward(x)?.to_dtype(DType::F32)?.flatten_all()?;
            let casts = Tensor::new(&[autocast::cache_stats().casts as f32], &Device::Cpu)?;
            Ok(Tensor::cat(&[said, casts], 0)?)
        },
    );
    let trainer = builder("bf16-mixed").build().unwrap();
    let (linear, parameters) = trainer.init_module(|vb| module.build(vb)).unwrap();
    let weight = parameters.get("weight").unwrap();
    weight.set(&Tensor::new(&[[1f32, 0.]], &Device::Cpu).unwrap()).unwrap();
    let batches = (0..4).map(|nth| {
        if nth == 2 {
            weight.set(&Tensor::new(&[[0f32, 1.]], &Device::Cpu).unwrap()).unwrap();
        }
        // In no region: the caller's own ops keep their dtypes.
        let x = ops::matmul(
            &Tensor::ones((2, 1), DType::F32, &Device::Cpu).unwrap(),
            &xy().0.narrow(0, 0, 1).unwrap(),
        );
        assert_eq!(x.as_ref().unwrap().dtype(), DType::F32);
        (x.unwrap(), xy().1)
    });
    let said = trainer.predict(&module, &linear, batches).unwrap();
    let said: Vec<Vec<f32>> = said.iter().map(|said| said.to_vec1().unwrap()).collect();
    assert_eq!(said, [[1., 1., 1.], [1., 1., 1.], [2., 2., 2.], [2., 2., 2.]]);
}
