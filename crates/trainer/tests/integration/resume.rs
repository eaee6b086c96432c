//! A run that stops and goes on equals one that never stopped, to the bit, wherever it stopped.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use crate::common::{CPU_PRECISIONS, Net, Pair, batches, bits, builder, folder, parameter_bits};
use trainer::{Callback, Control, EndReason, Error, ModelCheckpoint, Notice, Result, Step, TrainingState};

/// Through a file, as a resumed run has it.
fn through_a_file(name: &str, state: &TrainingState) -> TrainingState {
    let path = folder(name).join("state.safetensors");
    state.save(&path).unwrap();
    TrainingState::load(&path).unwrap()
}

#[test]
fn twenty_steps_are_ten_and_ten_more_in_the_middle_of_an_epoch() {
    let data = batches(7);
    for precision in CPU_PRECISIONS {
        let fit = |steps| builder(precision).max_steps(steps);
        let straight = fit(20).build().unwrap().fit(&Net, &data).unwrap();
        let half = fit(10).build().unwrap().fit(&Net, &data).unwrap();
        assert_eq!((half.position.epoch, half.position.batch), (1, 3), "{precision}");
        let state = through_a_file(&format!("half-{precision}"), &half.state().unwrap());
        let rest = fit(20).resume(state).build().unwrap().fit(&Net, &data).unwrap();
        assert_eq!(bits(&rest).0, bits(&straight).0[10..], "{precision}: losses");
        assert_eq!(bits(&rest).1, bits(&straight).1, "{precision}: parameters");
        assert_eq!(rest.skipped_steps + half.skipped_steps, straight.skipped_steps, "{precision}");
        assert_eq!(rest.position, straight.position, "{precision}");
    }
}

/// The data fail in the middle of a step of four batches; with and without that, all comes out the same.
#[test]
fn a_run_goes_on_in_the_middle_of_an_accumulated_step() {
    let data = batches(7);
    for precision in CPU_PRECISIONS {
        let fit = || builder(precision).max_steps(6).accumulate_grad_batches(4);
        let straight = fit().build().unwrap().fit(&Net, &data).unwrap();
        assert_eq!(straight.losses.len(), 6);
        for fails_at in [1, 2, 5, 6] {
            let failing = |epoch: usize| {
                let batch = move |(at, pair): (usize, Pair)| match (epoch, at) {
                    (1, at) if at == fails_at => Err(Error::Other("the disk is gone".into())),
                    _ => Ok(pair),
                };
                data.clone().into_iter().enumerate().map(batch)
            };
            let stopped = fit().build().unwrap().fit(&Net, failing).unwrap_err().into_fit().unwrap();
            let name = format!("middle-{precision}-{fails_at}");
            let state = through_a_file(&name, &stopped.state().unwrap());
            assert_eq!(state.accumulated.batches, fails_at % 4, "{precision} at {fails_at}");
            let rest = fit().resume(state).build().unwrap().fit(&Net, &data).unwrap();
            let whole = [bits(&stopped).0, bits(&rest).0].concat();
            assert_eq!(whole, bits(&straight).0, "{precision} at {fails_at}: losses");
            assert_eq!(bits(&rest).1, bits(&straight).1, "{precision} at {fails_at}: parameters");
        }
    }
}

/// Counts steps, and remembers them in checkpoints.
#[derive(Default)]
struct Counter {
    steps: usize,
    stop_at: Option<usize>,
}

impl Callback for Counter {
    fn name(&self) -> &'static str {
        "counter"
    }
    fn on_train_step(&mut self, step: &Step<'_>) -> Result<Control> {
        self.steps += 1;
        match self.stop_at {
            Some(at) if at == step.number() => Ok(Control::Stop { reason: format!("{} steps", self.steps) }),
            _ => Ok(Control::Continue),
        }
    }
    fn state(&self) -> serde_json::Value {
        self.steps.into()
    }
    fn load_state(&mut self, state: &serde_json::Value) -> Result<()> {
        self.steps = state.as_u64().unwrap() as usize;
        Ok(())
    }
}

#[test]
fn callbacks_remember_through_a_checkpoint() {
    let folder = folder("callbacks");
    let data = batches(3);
    let fit = |stop_at| {
        let builder = builder("32-true").max_epochs(9).checkpoint(ModelCheckpoint::new(&folder));
        let builder = builder.callback(Counter { stop_at: Some(stop_at), ..Counter::default() });
        builder.resume_latest(&folder).unwrap().build().unwrap().fit(&Net, &data).unwrap()
    };
    assert_eq!(fit(4).reason, EndReason::Stopped("4 steps".to_string()));
    assert_eq!(fit(11).reason, EndReason::Stopped("11 steps".to_string()));
}

#[test]
fn the_seed_goes_with_the_state_and_another_is_told() {
    let data = batches(3);
    let half = builder("32-true").seed(3).max_steps(2).build().unwrap().fit(&Net, &data).unwrap();
    let straight = builder("32-true").seed(3).max_steps(5).build().unwrap().fit(&Net, &data).unwrap();
    let unseeded = || trainer::Trainer::builder().accelerator("cpu").max_steps(5).on_notice(|_| ());
    let rest = unseeded().resume(half.state().unwrap()).build().unwrap().fit(&Net, &data).unwrap();
    assert_eq!(parameter_bits(&rest.parameters), parameter_bits(&straight.parameters));
    let other = unseeded().seed(4).resume(half.state().unwrap()).build().unwrap().fit(&Net, &data).unwrap();
    assert!(
        other.notices.iter().any(|notice| notice.to_string().contains("seed is 3")),
        "{:?}",
        other.notices
    );
}

#[test]
fn a_state_of_another_precision_is_converted_and_told() {
    let data = batches(7);
    for (from, to) in [("32-true", "bf16-true"), ("16-true", "64-true"), ("bf16-mixed", "16-true")] {
        let before = builder(from).max_steps(8).build().unwrap().fit(&Net, &data).unwrap();
        let resumed = builder(to).max_steps(9).resume(before.state().unwrap()).build().unwrap();
        let after = resumed.fit(&Net, &data).unwrap();
        let told = after.notices.iter().find(|notice| matches!(notice, Notice::Resumed { .. })).unwrap();
        assert!(told.to_string().contains(from) && told.to_string().contains(to), "{told}");
        assert!(after.losses[0].is_finite(), "{from} to {to}");
    }
}

#[test]
fn a_finished_run_has_nothing_left_to_do() {
    let data = batches(3);
    let done = builder("32-true").max_epochs(2).build().unwrap().fit(&Net, &data).unwrap();
    let again = builder("32-true").max_epochs(2).resume(done.state().unwrap()).build().unwrap();
    let again = again.fit(&Net, &data).unwrap();
    assert_eq!((again.losses.len(), again.reason), (0, EndReason::MaxEpochs));
    assert_eq!(parameter_bits(&again.parameters), parameter_bits(&done.parameters));
}

/// With validations in the middle of steps and of epochs, wherever the data fail.
#[test]
fn every_batch_is_a_place_to_stop_at() {
    let (data, validation) = (batches(11), batches(2));
    let fit = || builder("bf16-mixed").max_steps(15).accumulate_grad_batches(2).val_check_interval(5);
    let straight = fit().build().unwrap().fit_validated(&Net, &data, &validation).unwrap();
    for fails_at in 1..26 {
        let failing = |epoch: usize| {
            let batch = move |(at, pair): (usize, Pair)| match 11 * epoch + at == fails_at {
                true => Err(Error::Other("the disk is gone".into())),
                false => Ok(pair),
            };
            data.clone().into_iter().enumerate().map(batch)
        };
        let stopped = fit().build().unwrap().fit_validated(&Net, failing, &validation).unwrap_err();
        let state = through_a_file("every-batch", &stopped.into_fit().unwrap().state().unwrap());
        let rest = fit().resume(state).build().unwrap().fit_validated(&Net, &data, &validation).unwrap();
        assert_eq!(bits(&rest).1, bits(&straight).1, "at {fails_at}");
    }
}
