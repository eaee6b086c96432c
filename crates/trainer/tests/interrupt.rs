//! Ctrl-C, alone in a process: every fit of a process hears of it.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::process::Command;

use common::{Net, batches, builder, folder, parameter_bits};
use trainer::{EndReason, Fit, ModelCheckpoint, TrainerBuilder};

const STEPS: usize = 60;

fn fit(folder: &std::path::Path) -> TrainerBuilder {
    let builder = builder("32-true").max_steps(STEPS).accumulate_grad_batches(2);
    builder.checkpoint(ModelCheckpoint::new(folder)).resume_latest(folder).unwrap()
}

/// The first interruption ends a fit in good order, with a checkpoint that goes on to the same end.
#[test]
fn an_interrupted_fit_leaves_a_checkpoint_and_goes_on() {
    let data = batches(11);
    let straight = fit(&folder("never-interrupted")).build().unwrap().fit(&Net, &data).unwrap();
    for signal in ["-INT", "-TERM"] {
        let folder = folder(&format!("interrupted{signal}"));
        let (mut seen, this) = (0, std::process::id().to_string());
        let stopped: Fit<_> = fit(&folder)
            .build()
            .unwrap()
            .fit_with(&Net, &data, |_| {
                seen += 1;
                if seen == 8 {
                    assert!(Command::new("kill").args([signal, &this]).status().unwrap().success());
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(stopped.reason, EndReason::Interrupted, "{signal}");
        assert!(stopped.losses.len() >= 8 && stopped.losses.len() < STEPS, "{}", stopped.losses.len());
        let rest = fit(&folder).build().unwrap().fit(&Net, &data).unwrap();
        assert_eq!(rest.reason, EndReason::MaxSteps, "{signal}");
        assert_eq!(parameter_bits(&rest.parameters), parameter_bits(&straight.parameters), "{signal}");
    }
}
