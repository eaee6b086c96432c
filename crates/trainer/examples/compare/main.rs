//! Trains one small GPT from the same weights at every precision that this machine supports, and shows what each one
//! costs and gives: a table here, curves in `report.html`, every number in `report.json`. It does at length what
//! `Trainer::recommend` does in a few steps, by the same means.
//!
//! `cargo run --release --example compare -- --help` lists the options.

mod addition;
mod chart;
mod gpt;
mod memory;
mod options;
mod progress;
mod report;
mod results;
mod run;
mod task;
mod text;

use std::process::ExitCode;

use clap::Parser;
use trainer::{Accelerator, Trainer};

use crate::options::{Options, Size};
use crate::progress::Progress;
use crate::report::Setting;
use crate::results::Results;
use crate::task::Task;

type BoxError = Box<dyn std::error::Error>;

/// The exit code for input that cannot be used.
const BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(help) if !help.use_stderr() => return print_help(&help),
        Err(error) => return fail(BAD_INPUT, &usage(&error)),
    };
    let (trainers, task, size) = match check(&options) {
        Ok(checked) => checked,
        Err(error) => return fail(BAD_INPUT, &error),
    };
    match compare(&options, &trainers, &task, size) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}

fn print_help(help: &clap::Error) -> ExitCode {
    print!("{help}");
    ExitCode::SUCCESS
}

/// The first line of what clap says, and where to read on.
fn usage(error: &clap::Error) -> String {
    let message = error.to_string();
    let first = message.lines().next().unwrap_or_default();
    format!("{}; see --help", first.trim_start_matches("error: "))
}

/// One line: what was wrong and what to do.
fn fail(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("error: {}", error.to_string().lines().next().unwrap_or("unknown"));
    ExitCode::from(code)
}

/// Everything that can be wrong with the options, found before the first run.
fn check(options: &Options) -> Result<(Vec<Trainer>, Task, Size), BoxError> {
    let trainers = options.trainers()?;
    let size = options.size(accelerator(&trainers))?;
    let task = Task::new(options.data.as_deref(), options.seed, size.tokens)?;
    std::fs::create_dir_all(&options.out).map_err(|error| {
        format!("cannot create {}: {error}; give --out another folder", options.out.display())
    })?;
    Ok((trainers, task, size))
}

fn accelerator(trainers: &[Trainer]) -> Accelerator {
    trainers.first().map_or(Accelerator::Cpu, Trainer::accelerator)
}

fn compare(options: &Options, trainers: &[Trainer], task: &Task, size: Size) -> Result<(), BoxError> {
    let model = run::model(task, size);
    let accelerator = accelerator(trainers);
    let setting = Setting {
        task: task.describe(),
        model: format!("A GPT of {} layers of width {}", model.layers, model.width),
        accelerator: accelerator.to_string().to_uppercase(),
        steps: options.steps(accelerator),
        seed: options.seed,
        planned_runs: trainers.len(),
    };
    println!(
        "{}, on {}, {} steps of {} tokens on the {}",
        setting.model,
        setting.task,
        setting.steps,
        task.tokens_per_step(),
        setting.accelerator
    );

    if accelerator == Accelerator::Cpu && !options::is_fast_in_16_bits() {
        println!("This CPU has no fast 16-bit product: 16 bits save memory here, and no time.");
    }

    let mut results = Results { accelerator, runs: Vec::new() };
    for trainer in trainers {
        let progress = Progress::new(trainer.precision().to_string(), setting.steps);
        let run = run::run(trainer, task, model, &progress)?;
        progress.finish();
        println!(
            "{:<10}  {:7.2} ms/step  loss {:.4} -> {:.4}",
            run.precision, run.measured.ms_per_step, run.measured.first_loss, run.measured.last_loss
        );
        results.runs.push(run);
        report::write(&options.out, &results, &setting)?;
    }

    println!("\n{}", results.to_table());
    println!("report: {}", options.out.join("report.html").display());
    Ok(())
}
