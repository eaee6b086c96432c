//! A run that is killed at any moment, while it writes checkpoints included, goes on and ends as one that never was.
//!
//! The test starts itself as a child that trains, kills it after a random while, and starts it again until it has ended.
//! `KILL_ROUNDS` sets how often that is done; a round has several kills.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::common::{Net, batches, builder, folder, parameter_bits};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use trainer::{Best, EndReason, ModelCheckpoint, TrainingState};

const FOLDER: &str = "KILL_TEST_FOLDER";
const PRECISION: &str = "KILL_TEST_PRECISION";
const STEPS: usize = 200;

fn train(folder: &Path, precision: &str) -> trainer::Result<Vec<u64>> {
    let checkpoint = ModelCheckpoint::new(folder).every_n_steps(3).save_top_k(2, "val_loss", Best::Lowest);
    let builder = builder(precision).max_steps(STEPS).accumulate_grad_batches(2).checkpoint(checkpoint);
    let trainer = builder.val_check_interval(5).resume_latest(folder)?.build()?;
    let fit = trainer.fit_validated(&Net, &batches(11), &batches(2))?;
    assert_eq!(fit.reason, EndReason::MaxSteps);
    Ok(parameter_bits(&fit.parameters))
}

/// The child: trains where the parent says so, and leaves the bits of its parameters.
#[test]
fn child() {
    let (Ok(folder), Ok(precision)) = (std::env::var(FOLDER), std::env::var(PRECISION)) else { return };
    let bits = train(Path::new(&folder), &precision).unwrap();
    std::fs::write(Path::new(&folder).join("done.partial"), format!("{bits:?}")).unwrap();
    std::fs::rename(Path::new(&folder).join("done.partial"), Path::new(&folder).join("done")).unwrap();
}

fn start(folder: &Path, precision: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let command = command.args(["--exact", "kill::child"]).env(FOLDER, folder).env(PRECISION, precision);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn rounds() -> u64 {
    std::env::var("KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(3)
}

#[test]
fn a_killed_run_ends_as_one_that_never_was() {
    let precisions = ["bf16-mixed", "16-true", "64-true"];
    let mut kills = 0;
    for round in 0..rounds() {
        let precision = precisions[round as usize % precisions.len()];
        let straight = train(&folder(&format!("never-killed-{round}")), precision).unwrap();
        let folder = folder(&format!("killed-{round}"));
        let mut rng = ChaCha8Rng::seed_from_u64(round);
        while !folder.join("done").exists() {
            let mut child = start(&folder, precision);
            std::thread::sleep(Duration::from_millis(rng.random_range(5..150)));
            child.kill().unwrap();
            kills += usize::from(!child.wait().unwrap().success());
            // Whatever the moment, what is there can be read.
            TrainingState::latest(&folder).unwrap();
        }
        let killed = std::fs::read_to_string(folder.join("done")).unwrap();
        assert_eq!(killed, format!("{straight:?}"), "{precision}, after {kills} kills");
    }
    println!("{kills} kills in {} runs", rounds());
    assert!(kills > 0, "no child was killed in time");
}
