//! `cargo xtask ci`: the steps, one after the other, and what became of each.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::workspace::Workspace;
use crate::{check_cuda, command, deny, standalone, test, tidy};

/// One thing that must hold for a change to land.
pub(crate) struct Step {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What it checks, for the usage text.
    pub(crate) about: &'static str,
    /// What it runs. Shown as it starts, so that a reader can run the same by hand.
    pub(crate) line: &'static str,
    /// Runs `line`.
    pub(crate) run: fn(line: &str, &Workspace) -> Result<Outcome, String>,
}

/// How a step that did not fail ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// It holds, with something worth saying of it, or nothing.
    Passed(String),
    /// It could not be checked here, for this reason.
    Skipped(String),
}

/// Every step, cheapest first. `precision-types/serde` is asked for wherever all crates are built, for one set of
/// features means one build of candle; `check-cuda` needs another set and only checks types.
pub(crate) const STEPS: &[Step] = &[
    Step { name: "fmt", about: "formatting", line: "cargo fmt --all -- --check", run: plain },
    Step {
        name: "tidy",
        about: "crate arrows, first lines, where unsafe may be, file lengths",
        line: "reads the sources",
        run: tidy::run,
    },
    Step {
        name: "clippy",
        about: "lints of every target",
        line: "cargo clippy --workspace --all-targets --features precision-types/serde -- -D warnings",
        run: plain,
    },
    Step {
        name: "doc",
        about: "documentation, broken links included",
        line: "RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --features precision-types/serde",
        run: plain,
    },
    Step {
        name: "test",
        about: "every test, doc tests and examples included",
        line: "cargo test --workspace --features precision-types/serde --no-fail-fast -- --show-output",
        run: test::run,
    },
    Step {
        name: "standalone",
        about: "precision-types passes its tests without candle, and backends builds",
        line: "cargo test --package precision-types --no-fail-fast -- --show-output",
        run: standalone::run,
    },
    Step {
        name: "check-cuda",
        about: "lints of the cuda and cudnn features; needs neither a GPU nor the CUDA toolkit",
        line: "cargo clippy --config 'profile.dev.package.backends.opt-level=0' --config 'profile.dev.package.candle-kernels.opt-level=0' --workspace --all-targets --features cuda,cudnn -- -D warnings",
        run: check_cuda::run,
    },
    Step {
        name: "deny",
        about: "licences and banned crates; needs cargo-deny",
        line: "cargo deny check licenses bans",
        run: deny::run,
    },
];

/// A step that is its command line and nothing more.
fn plain(line: &str, workspace: &Workspace) -> Result<Outcome, String> {
    command::run(line, workspace).map(|()| Outcome::Passed(String::new()))
}

/// Runs every step, those after a failed one too: a change with two faults is told of both.
pub(crate) fn run_all(workspace: &Workspace, steps: &[Step]) -> ExitCode {
    let start = Instant::now();
    let mut ended: Vec<Ended> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        println!("[{}/{}] {}: {}", index + 1, steps.len(), step.name, step.line);
        let start = Instant::now();
        let result = (step.run)(step.line, workspace);
        println!("{}\n", describe(step.name, &result, start.elapsed()));
        ended.push((step.name, result, start.elapsed()));
    }
    if steps.len() > 1 {
        println!("summary");
        for (name, result, time) in &ended {
            println!("  {}", describe(name, result, *time));
        }
        println!("  {:<8} {:<11} {:>7.1} s", "", "all", start.elapsed().as_secs_f64());
    }
    let failed = failed(&ended);
    for name in &failed {
        println!("{name} FAILED. To see it alone: cargo xtask {name}");
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A step's name, how it ended, and how long it took.
type Ended = (&'static str, Result<Outcome, String>, Duration);

/// The names of the steps that failed. A skipped one has not.
fn failed(ended: &[Ended]) -> Vec<&'static str> {
    ended.iter().filter(|(_, result, _)| result.is_err()).map(|(name, ..)| *name).collect()
}

/// One line on how a step ended.
fn describe(name: &str, result: &Result<Outcome, String>, time: Duration) -> String {
    let (word, note) = match result {
        Ok(Outcome::Passed(note)) => ("passed", note),
        Ok(Outcome::Skipped(why)) => ("SKIPPED", why),
        Err(why) => ("FAILED", why),
    };
    format!("{word:<8} {name:<11} {:>7.1} s  {note}", time.as_secs_f64()).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_is_a_failure_and_a_skipped_one_is_not() {
        let passed = ("a", Ok(Outcome::Passed(String::new())), Duration::ZERO);
        let skipped = ("b", Ok(Outcome::Skipped("absent".into())), Duration::ZERO);
        let wrong = ("c", Err("wrong".into()), Duration::ZERO);
        assert!(failed(&[passed.clone(), skipped.clone()]).is_empty());
        assert_eq!(failed(&[wrong, passed, skipped]), ["c"]);
    }

    #[test]
    fn a_line_names_the_step_and_its_end() {
        let line =
            describe("deny", &Ok(Outcome::Skipped("no cargo-deny".into())), Duration::from_millis(1500));
        assert_eq!(line, "SKIPPED  deny            1.5 s  no cargo-deny");
    }
}
