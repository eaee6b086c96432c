//! `checks`: what the library has, by subcommand.

use std::process::ExitCode;

use checks::bench::{self, Bench};
use checks::report::Outcome;
use clap::{Parser, Subcommand};

/// Holds kernels, ops and training to their oracles, and measures them.
#[derive(Debug, Parser)]
#[command(name = "checks")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures, a line of JSON each
    #[command(subcommand)]
    Bench(Bench),
}

fn main() -> ExitCode {
    match run(&Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("checks: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Outcome<bool> {
    match command {
        Command::Bench(bench) => bench::run(bench),
    }
}
