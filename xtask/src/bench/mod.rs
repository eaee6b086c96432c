//! `cargo xtask bench compare`: training steps and inference of `checks bench` on a CPU, in alternation with the same in
//! PyTorch and Lightning, and a table of their times. What runs here is [`plan`]; [`mod@reference`] is the other side,
//! [`machine`] what is said of where it ran, [`table`] what is printed.

mod machine;
mod plan;
mod reference;
mod table;

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::command;
use crate::workspace::Workspace;
use plan::Case;
use reference::Reference;
use table::Row;

pub(crate) use plan::Plan;

/// How often each side is measured, in turn.
const ROUNDS: usize = 2;

/// Measures every case of the plan and prints a table.
pub(crate) fn compare(workspace: &Workspace, plan: &Plan<'_>) -> Result<(), String> {
    // All crates, as elsewhere: one set of features means one build of candle.
    command::run("cargo build --release --workspace --bin checks", workspace)?;
    let checks = workspace.target.join(format!("release/checks{}", std::env::consts::EXE_SUFFIX));
    let reference = Reference::find(workspace);
    let mut place = machine::describe(plan.cpus);
    match &reference {
        Ok(reference) => place += &format!("; {}", reference.versions),
        Err(why) => println!("no reference, ours alone: {why}"),
    }
    println!("{place}");
    let mut rows = Vec::new();
    for case in plan.cases() {
        let mut row = Row::new(&case);
        for round in 1..=ROUNDS {
            row.ours.push(ours(&checks, &case, plan)?);
            if let Ok(reference) = &reference {
                row.theirs.push(reference.measure(&case, plan)?);
            }
            println!("{round}/{ROUNDS} {}", row.progress());
        }
        rows.push(row);
    }
    println!("\n{place}\n\n{}", table::markdown(&rows));
    Ok(())
}

/// What our side of a case takes, in milliseconds.
fn ours(checks: &Path, case: &Case, plan: &Plan<'_>) -> Result<f64, String> {
    let mut command = pinned(checks.as_os_str(), plan);
    command.args(["bench", case.what.name(), case.workload, "--precision", case.precision]);
    command.args(["--accelerator", "cpu", "--steps", &plan.steps.to_string()]);
    milliseconds(&mut command)
}

/// A program on the plan's CPUs, with as many threads.
fn pinned(program: &OsStr, plan: &Plan<'_>) -> Command {
    let threads = plan.cpus.split(',').count().to_string();
    let mut command = if cfg!(target_os = "linux") {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", plan.cpus]).arg(program);
        command
    } else {
        Command::new(program)
    };
    for name in ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"] {
        command.env(name, &threads);
    }
    command
}

/// Runs a measurement and reads `ms` of the JSON in its last line.
fn milliseconds(command: &mut Command) -> Result<f64, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("cannot run {program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let line: Value =
        said.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    line["ms"].as_f64().ok_or_else(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        let last = line["error"].as_str().or(errors.lines().last()).unwrap_or("it printed nothing");
        format!("{}: {last}", words(command))
    })
}

fn words(command: &Command) -> String {
    command.get_args().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
