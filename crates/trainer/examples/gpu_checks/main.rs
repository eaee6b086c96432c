//! Checks and measurements on a CUDA GPU, as one binary that needs the driver and the CUDA runtime libraries alone.
//!
//! `gpu_checks checks [--big] [--quick]`, `gpu_checks memory`, `gpu_checks bench`, or nothing for all three. `--big` adds
//! tensors of several GB, `--quick` leaves out what takes long under a memory checker. Prints a line per check and exits with
//! 1 if one failed.

mod autocast;
mod bench;
#[path = "../../tests/closures/mod.rs"]
mod closures;
#[path = "../../../autocast/tests/common/mod.rs"]
mod common;
#[path = "../compare/gpt.rs"]
mod gpt;
mod kernels;
mod memory;
mod module;
mod numerics;
#[path = "../../tests/ported/mod.rs"]
mod ported;
mod promises;
#[path = "../../tests/reference/mod.rs"]
mod reference;
mod report;
mod scaler;
mod schedule;
mod step;
#[path = "../../tests/survival/mod.rs"]
mod survival;
mod tiny_gpt;
mod training;

use candle_core::Device;
use report::{Outcome, Report};
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let known = ["checks", "memory", "bench", "--big", "--quick"];
    if let Some(unknown) = words.iter().find(|word| !known.contains(&word.as_str())) {
        eprintln!("gpu_checks: '{unknown}' is not one of {known:?}");
        return ExitCode::from(2);
    }
    let has = |word: &str| words.iter().any(|w| w == word);
    let all = !has("checks") && !has("memory") && !has("bench");
    let wanted = Wanted {
        checks: all || has("checks"),
        memory: all || has("memory"),
        bench: all || has("bench"),
        big: has("--big"),
        quick: has("--quick"),
    };
    match run(&wanted) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("gpu_checks: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the command line asks for.
struct Wanted {
    checks: bool,
    memory: bool,
    bench: bool,
    big: bool,
    quick: bool,
}

/// Steps of each fit whose memory is watched.
const STEPS: usize = 20_000;

fn run(&Wanted { checks, memory, bench, big, quick }: &Wanted) -> Outcome<bool> {
    let device = Device::new_cuda(0)?;
    let context = device.as_cuda_device()?.cuda_stream().context().clone();
    println!("device: {} (compute capability {:?})", context.name()?, context.compute_capability()?);
    let mut report = Report::default();
    if checks {
        kernels::run(&device, &mut report);
        step::run(&device, &mut report, quick);
        promises::run(&device, &mut report, quick);
        scaler::run(&device, &mut report);
        if !quick {
            autocast::run(&device, &mut report);
            tiny_gpt::run(&mut report);
            schedule::run(&device, &mut report);
            numerics::run(&device, &mut report);
            training::run(&device, &mut report);
        }
        if big {
            report.check("adamw on 2^31 + 8 elements", || promises::more_than_u32(&device));
        }
    }
    if memory {
        memory::run(&device, &mut report, STEPS);
    }
    if bench {
        bench::run(&device)?;
    }
    Ok(report.finish())
}
