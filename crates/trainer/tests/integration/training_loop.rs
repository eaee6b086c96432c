//! What the loop's settings do: how long it goes on, what a step is made of, when it is validated, and who is told.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{CPU_PRECISIONS, Net, Pair, batches, builder, modest, numbers};
use autocast::{nn, ops};
use candle_core::{Device, Module, Tensor};
use candle_nn::VarBuilder;
use optim::{Sgd, SgdConfig};
use trainer::{
    Callback, Control, EndReason, Error, FitEnd, FitStart, Gradients, Limit, Logger, Metrics, Optimization,
    Parameters, Position, Result, Step, StepContext, StepOutput, TrainingModule,
};

/// One linear layer under plain SGD.
struct Line {
    lr: f64,
}

impl TrainingModule for Line {
    type Model = nn::Linear;
    type Batch = Pair;

    fn build(&self, vb: VarBuilder) -> Result<nn::Linear> {
        Ok(nn::linear(2, 1, vb)?)
    }
    fn training_step(&self, line: &nn::Linear, (x, y): &Pair, _: &StepContext) -> Result<StepOutput> {
        Ok(ops::mse_loss(&line.forward(x)?, y, ops::Reduction::Mean)?.into())
    }
    fn configure_optimizers(&self, parameters: &Parameters) -> Result<Optimization> {
        let config = SgdConfig { lr: self.lr, ..Default::default() };
        Ok(Optimization::new(Sgd::new(parameters.to_named(), config)?))
    }
}

fn weights(parameters: &Parameters) -> Vec<f64> {
    parameters.iter().flat_map(|(_, var)| numbers(var)).collect()
}

/// Batches of one sample, whose accumulated gradient is that of the whole batch.
fn samples((x, y): &Pair) -> Vec<Pair> {
    let row = |t: &Tensor, at| t.narrow(0, at, 1).unwrap();
    (0..x.dim(0).unwrap()).map(|at| (row(x, at), row(y, at))).collect()
}

#[test]
fn four_accumulated_batches_step_as_one_of_all_their_samples() {
    let whole = batches(3);
    let parts: Vec<Pair> = whole.iter().flat_map(samples).collect();
    let at_once = builder("64-true").max_epochs(2).build().unwrap().fit(&Line { lr: 0.1 }, &whole).unwrap();
    let accumulated = builder("64-true").max_epochs(2).accumulate_grad_batches(4).build().unwrap();
    let accumulated = accumulated.fit(&Line { lr: 0.1 }, &parts).unwrap();
    assert_eq!(accumulated.losses.len(), 6);
    for (a, b) in at_once.losses.iter().zip(&accumulated.losses) {
        assert!((a - b).abs() <= 1e-14 * a.abs(), "{a} and {b}");
    }
    for (a, b) in weights(&at_once.parameters).iter().zip(weights(&accumulated.parameters)) {
        assert!((a - b).abs() <= 1e-14, "{a} and {b}");
    }
}

#[test]
fn the_last_batches_of_an_epoch_make_a_step_of_their_share() {
    let data = batches(3);
    let fit = |accumulate, data: &Vec<Pair>| {
        let builder = builder("64-true").max_epochs(1).accumulate_grad_batches(accumulate);
        builder.build().unwrap().fit(&Line { lr: 0.1 }, data).unwrap()
    };
    let two_and_one = fit(2, &data);
    assert_eq!((two_and_one.losses.len(), two_and_one.position.step), (2, 2));
    // The third batch counts as half, as it would beside another: that is half of the rate.
    let two = fit(2, &data[..2].to_vec());
    let state = two.state().unwrap();
    let half = builder("64-true").max_steps(2).resume(state).build().unwrap();
    let half = half.fit(&Line { lr: 0.05 }, [data[2].clone()]).unwrap();
    for (a, b) in weights(&half.parameters).iter().zip(weights(&two_and_one.parameters)) {
        assert!((a - b).abs() <= 1e-14, "{a} and {b}");
    }
}

#[test]
fn epochs_steps_and_limits_bound_a_fit() {
    let data = batches(10);
    let fit = |builder: trainer::TrainerBuilder| {
        let fit = builder.build().unwrap().fit(&Line { lr: 0.01 }, &data).unwrap();
        (fit.losses.len(), fit.position, fit.reason)
    };
    let at = |step, epoch, batch| Position { step, epoch, batch };
    let base = || builder("32-true");
    assert_eq!(fit(base().max_epochs(2)), (20, at(20, 2, 0), EndReason::MaxEpochs));
    assert_eq!(fit(base().max_epochs(9).max_steps(13)), (13, at(13, 1, 3), EndReason::MaxSteps));
    assert_eq!(fit(base().max_steps(20)), (20, at(20, 2, 0), EndReason::MaxSteps));
    assert_eq!(fit(base().max_epochs(2).limit_train_batches(3)), (6, at(6, 2, 0), EndReason::MaxEpochs));
    assert_eq!(fit(base().max_epochs(1).limit_train_batches(0.25)), (2, at(2, 1, 0), EndReason::MaxEpochs));
    assert_eq!(fit(base().max_time(Duration::ZERO)), (0, at(0, 0, 0), EndReason::MaxTime));
    assert_eq!(fit(base().fast_dev_run(2)), (2, at(2, 1, 0), EndReason::MaxSteps));
    // An iterator ends once.
    let once = base().max_epochs(5).build().unwrap().fit(&Line { lr: 0.01 }, data.clone()).unwrap();
    assert_eq!((once.losses.len(), once.reason), (10, EndReason::DataEnd));
}

#[test]
fn a_closure_gives_each_epoch_its_own_data() {
    let seen = Mutex::new(Vec::new());
    let data = batches(4);
    let source = |epoch: usize| {
        seen.lock().unwrap().push(epoch);
        data[epoch..].iter().cloned()
    };
    let fit = builder("32-true").max_epochs(3).build().unwrap().fit(&Line { lr: 0.01 }, source).unwrap();
    assert_eq!((fit.losses.len(), seen.into_inner().unwrap()), (4 + 3 + 2, vec![0, 1, 2]));
}

#[test]
fn overfitting_stays_on_the_first_batches_of_the_first_epoch() {
    let data = batches(4);
    let seen = Mutex::new(Vec::new());
    let source = |epoch: usize| {
        seen.lock().unwrap().push(epoch);
        data.iter().cloned()
    };
    let trainer = builder("32-true").max_epochs(2).overfit_batches(1).build().unwrap();
    let fit = trainer.fit(&Line { lr: 0.01 }, source).unwrap();
    assert_eq!((fit.losses.len(), seen.into_inner().unwrap()), (2, vec![0, 0]));
    let error = trainer.fit(&Line { lr: 0.01 }, data).unwrap_err();
    assert!(error.to_string().contains("overfit_batches"), "{error}");
}

#[test]
fn gradients_are_clipped_by_norm_or_value() {
    let data = vec![batches(1)[0].clone()];
    let step = |clip: &str, limit: f64| {
        let trainer = builder("64-true").max_steps(1).gradient_clip_val(limit).gradient_clip_algorithm(clip);
        let trainer = trainer.build().unwrap();
        let (_, before) = trainer.init_module(|vb| Line { lr: 1. }.build(vb)).unwrap();
        let after = trainer.fit(&Line { lr: 1. }, &data).unwrap();
        let (before, after) = (weights(&before), weights(&after.parameters));
        before.iter().zip(after).map(|(before, after)| before - after).collect::<Vec<f64>>()
    };
    let full = step("norm", 1e9);
    let norm = |g: &[f64]| g.iter().map(|g| g * g).sum::<f64>().sqrt();
    assert!(norm(&full) > 0.02, "{full:?}");
    assert!((norm(&step("norm", 0.01)) - 0.01).abs() < 1e-7);
    let clamped = step("value", 0.01);
    for (full, clamped) in full.iter().zip(clamped) {
        assert!((full.clamp(-0.01, 0.01) - clamped).abs() < 1e-12, "{full} became {clamped}");
    }
    let error = builder("32-true").gradient_clip_algorithm("sum").build().unwrap_err().to_string();
    assert!(error.contains("\"sum\"") && error.contains("norm"), "{error}");
}

#[test]
fn a_precision_of_products_is_taken_everywhere_and_told_where_it_changes_nothing() {
    let notices = |precision: &str| {
        let trainer = builder("32-true").max_steps(1).matmul_precision(precision).build().unwrap();
        let fit = trainer.fit(&Line { lr: 0.1 }, &batches(1)).unwrap();
        fit.notices
            .iter()
            .map(ToString::to_string)
            .filter(|notice| notice.contains("matmul"))
            .collect::<String>()
    };
    assert_eq!(notices("highest"), "");
    for precision in ["high", "medium"] {
        let told = notices(precision);
        assert!(told.contains("matmul_precision has no effect: a CPU multiplies f32 in f32"), "{told}");
    }
    let error = builder("32-true").matmul_precision("tf32").build().unwrap_err();
    assert!(matches!(&error, Error::Setting { setting: "matmul_precision", .. }), "{error}");
    assert!(error.to_string().contains("\"highest\", \"high\" or \"medium\""), "{error}");
}

#[test]
fn the_clock_chooses_nothing_on_a_cpu_and_says_so() {
    let trainer = builder("32-true").max_steps(1).benchmark().build().unwrap();
    let fit = trainer.fit(&Line { lr: 0.1 }, &batches(1)).unwrap();
    let told: Vec<String> = fit.notices.iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|told| told.contains("benchmark has no effect")), "{told:?}");
    assert_eq!(autocast::algorithm_choice(), autocast::AlgorithmChoice::Heuristic);
}

/// What was called, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn push(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Callback for Log {
    fn name(&self) -> &'static str {
        "log"
    }
    fn on_fit_start(&mut self, fit: &FitStart<'_>) -> Result<()> {
        self.push(format!("start of {:?} steps an epoch", fit.steps_per_epoch));
        Ok(())
    }
    fn on_train_step(&mut self, step: &Step<'_>) -> Result<Control> {
        step.log("own", step.number() as f64);
        self.push(format!("step {}", step.number()));
        Ok(Control::Continue)
    }
    fn on_validation_end(&mut self, metrics: &Metrics, at: &Position) -> Result<Control> {
        assert!(metrics.get("val_loss").is_some_and(f64::is_finite));
        self.push(format!("validation at {}/{}", at.epoch, at.batch));
        Ok(Control::Continue)
    }
    fn on_fit_end(&mut self, end: &FitEnd<'_>) -> Result<()> {
        self.push(format!("end: {:?}", end.reason));
        Ok(())
    }
}

impl Logger for Log {
    fn log_hyperparameters(&mut self, values: &[(String, String)]) -> Result<()> {
        self.push(format!("{} {}", values[0].0, values[0].1));
        Ok(())
    }
    fn log_metrics(&mut self, step: usize, metrics: &[(String, f64)]) -> Result<()> {
        let names: Vec<&str> = metrics.iter().map(|(name, _)| name.as_str()).collect();
        self.push(format!("{step}: {}", names.join(" ")));
        Ok(())
    }
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn validations_come_when_they_are_due() {
    let (data, validation) = (batches(4), batches(2));
    let validated = |builder: trainer::TrainerBuilder| {
        let log = Log::default();
        let trainer = builder.max_epochs(2).callback(log.clone()).build().unwrap();
        let fit = trainer.fit_validated(&Line { lr: 0.01 }, &data, &validation).unwrap();
        let seen: Vec<String> = log.take().into_iter().filter(|what| what.starts_with("val")).collect();
        if seen.last().is_some_and(|last| last.ends_with("2/0")) {
            let again = trainer.validate(&Line { lr: 0.01 }, &fit.model, &validation).unwrap();
            assert_eq!(fit.metrics, again);
        }
        seen.into_iter().map(|what| what.replace("validation at ", "")).collect::<Vec<_>>()
    };
    assert_eq!(validated(builder("32-true")), ["1/0", "2/0"]);
    assert_eq!(validated(builder("32-true").val_check_interval(2)), ["0/2", "0/4", "1/2", "1/4"]);
    assert_eq!(validated(builder("32-true").val_check_interval(0.5)), ["0/2", "0/4", "1/2", "1/4"]);
    assert_eq!(validated(builder("32-true").check_val_every_n_epoch(2)), ["2/0"]);
    assert_eq!(validated(builder("32-true").limit_val_batches(0)), [""; 0]);
}

#[test]
fn a_validation_after_the_last_batch_sees_the_step_that_it_completes() {
    let log = Log::default();
    let builder = builder("32-true").max_epochs(1).accumulate_grad_batches(2).val_check_interval(3);
    let trainer = builder.callback(log.clone()).build().unwrap();
    trainer.fit_validated(&Line { lr: 0.01 }, &batches(3), &batches(1)).unwrap();
    assert_eq!(log.take()[1..4], ["step 1", "step 2", "validation at 0/3"]);
}

#[test]
fn a_mistake_in_validation_is_found_before_training() {
    let log = Log::default();
    let wrong = vec![(
        Tensor::zeros((4, 3), candle_core::DType::F32, &Device::Cpu).unwrap(),
        batches(1)[0].1.clone(),
    )];
    let fit = |sanity| {
        let builder = builder("32-true").max_epochs(1).num_sanity_val_steps(sanity).callback(log.clone());
        let error =
            builder.build().unwrap().fit_validated(&Line { lr: 0.01 }, &batches(2), &wrong).unwrap_err();
        (error.into_fit().map(|fit| fit.losses.len()), log.take().len())
    };
    // Where validation is off, it is not looked at before training either.
    let off = builder("32-true").max_epochs(1).limit_val_batches(0).build().unwrap();
    assert!(off.fit_validated(&Line { lr: 0.01 }, &batches(2), &wrong).is_ok());
    // Started and ended, and no step between.
    assert_eq!(fit(1), (None, 2));
    assert_eq!(fit(0), (Some(2), 4));
}

#[test]
fn loggers_get_means_and_what_callbacks_measured() {
    let log = Log::default();
    let trainer = builder("32-true").max_steps(5).log_every_n_steps(2);
    let trainer = trainer.callback(log.clone()).logger(log.clone()).build().unwrap();
    trainer.fit_validated(&Net, &batches(5), &batches(1)).unwrap();
    let expected = [
        "precision 32-true",
        "start of Some(5) steps an epoch",
        "step 1",
        "1: own",
        "step 2",
        "2: own epoch train_loss train_mean",
        "step 3",
        "3: own",
        "step 4",
        "4: own epoch train_loss train_mean",
        "step 5",
        "5: own",
        "5: val_loss val_mean",
        "validation at 1/0",
        "end: MaxSteps",
    ];
    assert_eq!(log.take(), expected);
}

/// Gradients as the update sees them: the step is theirs times the rate.
struct Watches(Arc<Mutex<Vec<f64>>>);

impl Callback for Watches {
    fn name(&self) -> &'static str {
        "watches"
    }
    fn wants_gradients(&self, step: usize) -> bool {
        step == 2
    }
    fn on_gradients(&mut self, gradients: &Gradients<'_>) -> Result<()> {
        let weight = numbers(&gradients.get("weight")?.unwrap());
        let before = numbers(gradients.parameters().get("weight").unwrap());
        assert_eq!(gradients.step(), 2);
        *self.0.lock().unwrap() =
            before.iter().zip(weight).map(|(before, grad)| before - 0.125 * grad).collect();
        Ok(())
    }
}

#[test]
fn gradients_are_shown_unscaled_and_before_their_step() {
    for precision in CPU_PRECISIONS {
        let expected = Arc::new(Mutex::new(Vec::new()));
        let trainer = modest(precision).max_steps(2).callback(Watches(expected.clone())).build().unwrap();
        let fit = trainer.fit(&Line { lr: 0.125 }, &batches(2)).unwrap();
        let got = numbers(fit.parameters.get("weight").unwrap());
        let expected = expected.lock().unwrap();
        assert_eq!((expected.len(), fit.skipped_steps), (2, 0), "{precision}");
        for (a, b) in got.iter().zip(expected.iter()) {
            let tolerance = if precision.starts_with("bf16-t") { 1e-2 } else { 2e-3 };
            assert!((a - b).abs() <= tolerance * b.abs().max(0.1), "{precision}: {a} for {b}");
        }
    }
}

#[test]
fn two_limits_are_one_and_shares_are_checked() {
    assert_eq!(Limit::from(-1), Limit::All);
    let error = builder("32-true").limit_val_batches(1.5).build().unwrap_err();
    assert!(error.to_string().contains("limit_val_batches is 1.5"), "{error}");
    let error = builder("32-true").limit_train_batches(0.5).build().unwrap();
    let error = error.fit(&Line { lr: 0.1 }, |_: usize| batches(2)).unwrap_err();
    assert!(matches!(error, Error::Data { setting: "limit_train_batches", .. }), "{error}");
}
