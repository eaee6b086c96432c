//! `checks`: what the library has, by subcommand. Prints a line per check, and exits with 1 if one failed.

use std::process::ExitCode;

use candle_core::Device;
use checks::bench::{self, Bench};
use checks::report::{Outcome, Report};
use checks::{ops, training};
use clap::{Args, Parser, Subcommand};
use precision_types::Accelerator;

#[cfg(feature = "cuda")]
use checks::kernels::Extent;

/// Holds kernels, ops and training to their oracles, and measures them.
#[derive(Debug, Parser)]
#[command(name = "checks")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// kernels, ops, training and memory, on a GPU
    All,
    /// Kernels on a GPU against their oracles
    #[cfg(feature = "cuda")]
    Kernels {
        /// How much is checked
        #[arg(long, value_enum, default_value_t)]
        extent: Extent,
    },
    /// Ops against f64 on the CPU
    Ops {
        #[command(flatten)]
        place: Place,
        /// Only checks whose names contain this
        #[arg(long, value_name = "TEXT", default_value = "")]
        only: String,
    },
    /// Writes which kernels ops come to, as docs/kernels.md has it
    KernelList(Place),
    /// Training on a GPU against recorded losses, and what a user relies on
    Training {
        /// Only checks whose names contain this
        #[arg(long, value_name = "TEXT", default_value = "")]
        only: String,
    },
    /// Training with recorded passes on a GPU
    Graph {
        /// Only checks whose names contain this
        #[arg(long, value_name = "TEXT", default_value = "")]
        only: String,
    },
    /// Runs that stop in one process and go on in another
    Resume(Place),
    /// The first half of one
    #[command(hide = true)]
    FirstHalf(training::FirstHalf),
    /// Memory over long fits on a GPU
    Memory,
    /// Measures, a line of JSON each
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(Debug, Args)]
struct Place {
    /// Where to run: cpu or gpu
    #[arg(long, default_value_t = Accelerator::Gpu)]
    accelerator: Accelerator,
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
    let mut report = Report::default();
    match command {
        Command::Bench(bench) => return bench::run(bench),
        Command::All => all(&gpu()?, &mut report),
        #[cfg(feature = "cuda")]
        Command::Kernels { extent } => checks::kernels::run(&gpu()?, &mut report, *extent),
        Command::Ops { place, only } => {
            report = Report::only(only);
            ops::run(&place.device()?, &mut report);
        }
        Command::KernelList(place) => {
            print!("{}", ops::kernels::list(&place.device()?)?);
            return Ok(true);
        }
        Command::Training { only } => {
            report = Report::only(only);
            training::run(&gpu()?, &mut report);
        }
        Command::Graph { only } => {
            report = Report::only(only);
            training::graph(&gpu()?, &mut report);
        }
        Command::Resume(place) => training::resume(place.accelerator, &mut report),
        Command::FirstHalf(half) => {
            training::first_half(half)?;
            return Ok(true);
        }
        Command::Memory => training::memory(&gpu()?, &mut report),
    }
    Ok(report.finish())
}

/// The GPU that is checked, by name.
fn gpu() -> Outcome<Device> {
    let device = checks::device::gpu()?;
    println!("device: {}", checks::device::name(&device)?);
    Ok(device)
}

fn all(device: &Device, report: &mut Report) {
    #[cfg(feature = "cuda")]
    checks::kernels::run(device, report, Extent::Full);
    ops::run(device, report);
    training::run(device, report);
    training::memory(device, report);
}

impl Place {
    fn device(&self) -> Outcome<Device> {
        match self.accelerator {
            Accelerator::Cpu => Ok(Device::Cpu),
            Accelerator::Gpu => gpu(),
            other => Err(format!("ops run on cpu and gpu, not on {other}").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Arguments::command().debug_assert();
    }
}
