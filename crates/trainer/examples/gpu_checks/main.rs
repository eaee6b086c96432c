//! Checks and measurements on a CUDA GPU, as one binary that needs the driver and the CUDA runtime libraries alone.
//!
//! `gpu_checks checks [--big] [--quick]`, `gpu_checks bench`, or nothing for both. `--big` adds tensors of several GB, `--quick`
//! leaves out what takes long under a memory checker. Prints a line per check and exits
//! with 1 if one failed.

mod autocast;
mod bench;
#[path = "../../../autocast/tests/common/mod.rs"]
mod common;
#[path = "../compare/gpt.rs"]
mod gpt;
mod kernels;
mod promises;
#[path = "../../tests/reference/mod.rs"]
mod reference;
mod report;
mod scaler;
mod step;
#[path = "../../tests/survival/mod.rs"]
mod survival;
mod tiny_gpt;

use candle_core::Device;
use report::{Outcome, Report};
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let known = ["checks", "bench", "--big", "--quick"];
    if let Some(unknown) = words.iter().find(|word| !known.contains(&word.as_str())) {
        eprintln!("gpu_checks: '{unknown}' is not one of {known:?}");
        return ExitCode::from(2);
    }
    let has = |word: &str| words.iter().any(|w| w == word);
    let all = !has("checks") && !has("bench");
    match run(all || has("checks"), all || has("bench"), has("--big"), has("--quick")) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("gpu_checks: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(checks: bool, benchmarks: bool, big: bool, quick: bool) -> Outcome<bool> {
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
        }
        if big {
            report.check("adamw on 2^31 + 8 elements", || promises::more_than_u32(&device));
        }
    }
    if benchmarks {
        bench::run(&device)?;
    }
    Ok(report.finish())
}
