//! What a user of `Trainer` relies on, on models small enough to check by eye.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use autocast::{ComplexTensor, nn, ops};
use candle_core::{DType, Device, Module, Tensor};
use candle_nn::VarBuilder;
use grad_scaler::{DiagnosticsConfig, ScalerConfig, StepOutcome};
use optim::{Schedule, Sgd, SgdConfig};
use precision_types::ComplexDType;
use trainer::{
    Error, OnUnsupported, Optimization, Parameters, Precision, StepContext, StepOutput, Trainer,
    TrainingModule,
};

/// `y = w x + b`, and a parameter that the loss may leave out.
#[derive(Default)]
struct Line {
    use_unused: bool,
    schedule: Option<Schedule>,
    loss_shape_is_wrong: bool,
}

impl TrainingModule for Line {
    type Model = (nn::Linear, Tensor);
    type Batch = (Tensor, Tensor);

    fn build(&self, vb: VarBuilder) -> trainer::Result<Self::Model> {
        Ok((nn::linear(2, 1, vb.pp("layer"))?, vb.get(1, "unused")?))
    }

    fn training_step(
        &self,
        (layer, unused): &Self::Model,
        (x, y): &Self::Batch,
        _: &StepContext,
    ) -> trainer::Result<StepOutput> {
        let prediction = layer.forward(x)?;
        if self.loss_shape_is_wrong {
            return Ok(prediction.into());
        }
        let loss = ops::mse_loss(&prediction, y, ops::Reduction::Mean)?;
        if !self.use_unused {
            return Ok(loss.into());
        }
        Ok(ops::add(&loss, &unused.squeeze(0)?)?.into())
    }

    fn predict_step(&self, (layer, _): &Self::Model, (x, _): &Self::Batch) -> trainer::Result<Tensor> {
        Ok(layer.forward(x)?)
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        let sgd = Sgd::new(parameters.to_named(), SgdConfig { lr: 0.01, ..Default::default() })?;
        let optimization = Optimization::new(sgd);
        Ok(match self.schedule {
            Some(schedule) => optimization.with_schedule(schedule),
            None => optimization,
        })
    }
}

fn batches() -> impl Iterator<Item = (Tensor, Tensor)> {
    let x = Tensor::new(&[[1f32, 2.], [3., -1.]], &Device::Cpu).unwrap();
    let y = Tensor::new(&[[1f32], [0.5]], &Device::Cpu).unwrap();
    std::iter::repeat((x, y))
}

fn trainer(precision: &str) -> Trainer {
    Trainer::builder().precision(precision).accelerator("cpu").max_steps(5).build().unwrap()
}

#[test]
fn every_precision_of_a_cpu_stores_what_it_says_and_learns() {
    for (precision, dtype) in [
        ("32-true", DType::F32),
        ("64-true", DType::F64),
        ("bf16-mixed", DType::F32),
        ("bf16-true", DType::BF16),
        ("16-true", DType::F16),
    ] {
        let line = Line { use_unused: true, ..Default::default() };
        // 16-true may skip some steps until its loss scale fits.
        let trainer =
            Trainer::builder().precision(precision).accelerator("cpu").max_steps(20).build().unwrap();
        let fit = trainer.fit(&line, batches()).unwrap();
        assert!(fit.parameters.iter().all(|(_, var)| var.dtype() == dtype), "{precision}");
        assert!(fit.losses[19] < fit.losses[0], "{precision}: {:?}", fit.losses);
    }
}

#[test]
fn a_mixed_precision_multiplies_in_the_fast_dtype() {
    let line = Line { use_unused: true, ..Default::default() };
    let trainer = trainer("bf16-mixed");
    let fit = trainer.fit(&line, batches()).unwrap();
    let batch = trainer.prepare(batches().next().unwrap()).unwrap();
    let inside = || Ok(fit.model.0.forward(&batch.0)?.dtype().as_str().to_string());
    assert_eq!(trainer.infer(inside).unwrap(), "bf16");
    // What leaves is f32.
    let predicted = trainer.predict(&line, &fit.model, batches().take(2)).unwrap();
    assert_eq!(predicted.iter().map(Tensor::dtype).collect::<Vec<_>>(), [DType::F32; 2]);
}

#[test]
fn a_parameter_without_a_gradient_is_named() {
    let error = trainer("32-true").fit(&Line::default(), batches()).unwrap_err();
    assert!(matches!(&error, Error::MissingGradient { names, .. } if names == &["unused"]), "{error}");
    assert!(error.to_string().contains("unused"));
}

#[test]
fn a_loss_that_is_not_one_number_is_refused() {
    let line = Line { loss_shape_is_wrong: true, ..Default::default() };
    let error = trainer("32-true").fit(&line, batches()).unwrap_err();
    assert!(matches!(&error, Error::NotOneNumber { shape, .. } if shape == &[2, 1]), "{error}");
}

#[test]
fn training_ends_with_the_data_or_with_max_steps() {
    let line = Line { use_unused: true, ..Default::default() };
    assert_eq!(trainer("32-true").fit(&line, batches()).unwrap().losses.len(), 5);
    assert_eq!(trainer("32-true").fit(&line, batches().take(3)).unwrap().losses.len(), 3);
    let mut last = Vec::new();
    let fit = trainer("32-true").fit_with(&line, batches().take(3), |step| {
        last.push(step.is_last());
        Ok(())
    });
    fit.unwrap();
    assert_eq!(last, [false, false, true]);
}

#[test]
fn the_same_seed_trains_to_the_same_bits() {
    let fit = || {
        let line = Line { use_unused: true, ..Default::default() };
        trainer("bf16-mixed").fit(&line, batches()).unwrap().losses
    };
    assert_eq!(fit(), fit());
}

#[test]
fn a_saved_model_loads_as_initial_values() {
    let line = Line { use_unused: true, ..Default::default() };
    let fit = trainer("32-true").fit(&line, batches()).unwrap();
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("line.safetensors");
    fit.parameters.save(&file).unwrap();
    let values = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    let again = Trainer::builder().accelerator("cpu").max_steps(1).initial_values(values).build().unwrap();
    let next = again.fit(&line, batches()).unwrap().losses[0];
    assert!(next < fit.losses[4], "{next} follows {:?}", fit.losses);
}

#[test]
fn initial_values_that_nobody_asks_for_are_named() {
    let values = [("layer.wieght".to_string(), Tensor::zeros((1, 2), DType::F32, &Device::Cpu).unwrap())];
    let trainer = Trainer::builder().accelerator("cpu").initial_values(values.into()).build().unwrap();
    let error = trainer.fit(&Line::default(), batches()).unwrap_err();
    assert!(error.to_string().contains("layer.wieght"), "{error}");
}

#[test]
fn the_builder_takes_strings_numbers_and_precisions() {
    let build = |builder: trainer::TrainerBuilder| builder.accelerator("cpu").build().unwrap();
    assert_eq!(build(Trainer::builder().precision("bf16-mixed")).precision(), Precision::Bf16Mixed);
    assert_eq!(build(Trainer::builder().precision(64)).precision(), Precision::F64True);
    assert_eq!(build(Trainer::builder().precision(Precision::F16True)).precision(), Precision::F16True);
    assert_eq!(build(Trainer::builder()).precision(), Precision::F32True);
    let notice = build(Trainer::builder().precision("bf16")).notice().unwrap().to_string();
    assert!(notice.contains("bf16-mixed"), "{notice}");
}

#[test]
fn an_unsupported_precision_falls_back_only_when_asked() {
    let builder = || Trainer::builder().precision("16-mixed").accelerator("cpu");
    let error = builder().build().unwrap_err();
    assert!(error.to_string().contains("bf16-mixed"), "{error}");
    let trainer = builder().on_unsupported(OnUnsupported::Fallback).build().unwrap();
    assert_eq!(trainer.precision(), Precision::Bf16Mixed);
    assert!(trainer.notice().unwrap().to_string().contains("16-mixed"));
}

#[test]
fn a_schedule_waits_for_steps_that_are_skipped() {
    let schedule = Schedule::linear_warmup(1e-3, 4).unwrap();
    let line = Line { use_unused: true, schedule: Some(schedule), ..Default::default() };
    // A scale far above f16's range: the first steps overflow until it has backed off.
    let scaling = ScalerConfig {
        init_scale: 2f64.powi(30),
        backoff_factor: 1. / 64.,
        growth_interval: 1_000,
        ..Default::default()
    };
    let builder = Trainer::builder().precision("16-true").accelerator("cpu").loss_scaling(scaling);
    let mut steps = Vec::new();
    let fit = builder.max_steps(8).build().unwrap().fit_with(&line, batches(), |step| {
        steps.push((step.learning_rate(), step.outcome().clone()));
        Ok(())
    });
    let skipped = fit.unwrap().skipped_steps;
    assert!(skipped > 0 && skipped < 8, "{steps:?}");
    let mut applied = 0;
    for (learning_rate, outcome) in steps {
        assert_eq!(learning_rate, schedule.lr(applied));
        applied += u64::from(outcome == StepOutcome::Applied);
    }
}

#[test]
fn a_skipped_step_names_what_overflowed() {
    let scaling = ScalerConfig { init_scale: 2f64.powi(30), growth_interval: 1_000, ..Default::default() };
    let builder =
        Trainer::builder().precision("16-true").accelerator("cpu").max_steps(1).loss_scaling(scaling);
    let trainer = builder.diagnostics(DiagnosticsConfig::default()).build().unwrap();
    let line = Line { use_unused: true, ..Default::default() };
    let mut overflowed = Vec::new();
    let fit = trainer.fit_with(&line, batches(), |step| {
        overflowed.extend(step.diagnostics().unwrap().overflowed().iter().cloned());
        Ok(())
    });
    assert_eq!(fit.unwrap().skipped_steps, 1);
    assert_eq!(overflowed, ["layer.bias", "layer.weight", "unused"]);
}

#[test]
fn complex_parameters_have_the_precisions_width_and_are_saved_with_the_model() {
    for (precision, complex, part) in [
        ("64-true", ComplexDType::Complex128, DType::F64),
        ("32-true", ComplexDType::Complex64, DType::F32),
        ("16-true", ComplexDType::Complex64, DType::F32),
        ("bf16-mixed", ComplexDType::Complex64, DType::F32),
    ] {
        let init = candle_nn::Init::Randn { mean: 0., stdev: 1. };
        let create = |vb: VarBuilder| Ok(ComplexTensor::var(&vb, (2, 3), "z", init)?);
        let (z, parameters) = trainer(precision).init_module(create).unwrap();
        assert_eq!(z.dtype(), complex, "{precision}");
        let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("complex-{precision}.safetensors"));
        parameters.save(&file).unwrap();
        let values = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
        assert_eq!(values["z.im"].dtype(), part, "{precision}");
        let builder =
            Trainer::builder().precision(precision).accelerator("cpu").seed(1).initial_values(values);
        let (loaded, _) = builder.build().unwrap().init_module(create).unwrap();
        let flat =
            |t: &Tensor| t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        assert_eq!(flat(loaded.imag()), flat(z.imag()), "{precision}");
    }
}
