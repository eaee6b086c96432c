//! The project's own commands, run as `cargo xtask <command>`: choosing one. Each command has a file of its own.

mod bench;
mod check_cuda;
mod ci;
mod command;
mod deny;
mod gpu;
mod nvcc;
mod standalone;
mod test;
mod tidy;
mod workspace;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use crate::bench::Plan;
use crate::ci::{STEPS, Step};
use crate::gpu::Program;
use crate::workspace::Workspace;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let program = args.next().unwrap_or_default();
    let args: Vec<OsString> = args.collect();
    // `check-cuda` copies this program to a file named `nvcc` and lets build scripts find it.
    if Path::new(&program).file_stem().is_some_and(|name| name == "nvcc") {
        return nvcc::stand_in(&args);
    }
    let args: Vec<&str> = args.iter().map(|arg| arg.to_str().unwrap_or("")).collect();
    let Some(chosen) = choose(&args) else {
        eprint!("{}", usage());
        return ExitCode::from(2);
    };
    match run(chosen) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// What the command line asks for.
#[derive(Debug, PartialEq)]
enum Chosen<'a> {
    /// Every step, in order.
    Ci,
    /// The step of that index in [`STEPS`], alone.
    Step(usize),
    /// A binary for a GPU.
    Gpu(Program<'a>),
    /// Benchmarks in alternation with a reference.
    Compare(Plan<'a>),
}

/// Reads the command line; `None` where it is not one that [`usage`] lists.
fn choose<'a>(args: &[&'a str]) -> Option<Chosen<'a>> {
    match *args {
        ["ci"] => Some(Chosen::Ci),
        ["gpu"] => Some(Chosen::Gpu(Program::Checks)),
        ["gpu", "--example", example] if !example.is_empty() => Some(Chosen::Gpu(Program::Example(example))),
        ["bench", "compare", ref plan @ ..] => Plan::read(plan).map(Chosen::Compare),
        [name] => STEPS.iter().position(|step| step.name == name).map(Chosen::Step),
        _ => None,
    }
}

fn run(chosen: Chosen<'_>) -> Result<ExitCode, String> {
    let workspace = Workspace::find()?;
    match chosen {
        Chosen::Ci => Ok(ci::run_all(&workspace, STEPS)),
        Chosen::Step(index) => Ok(ci::run_all(&workspace, &STEPS[index..=index])),
        Chosen::Gpu(program) => gpu::build(&workspace, program).map(|()| ExitCode::SUCCESS),
        Chosen::Compare(plan) => bench::compare(&workspace, &plan).map(|()| ExitCode::SUCCESS),
    }
}

fn usage() -> String {
    let mut text =
        String::from("usage: cargo xtask <command>\n\n  ci          every step below, in this order\n");
    for Step { name, about, .. } in STEPS {
        text += &format!("  {name:<11} {about}\n");
    }
    text + "  gpu [--example NAME]\n              `checks`, or an example of trainer, as one stripped binary for a GPU (needs nvcc)\n  \
        bench compare [--only TEXT] [--cpus 0,1] [--steps 15]\n              training and inference on a CPU, in alternation with PyTorch where TORCH_PYTHON or python3 has it\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_command_is_understood() {
        assert_eq!(choose(&["ci"]), Some(Chosen::Ci));
        assert_eq!(choose(&["gpu"]), Some(Chosen::Gpu(Program::Checks)));
        assert_eq!(choose(&["gpu", "--example", "x"]), Some(Chosen::Gpu(Program::Example("x"))));
        assert!(matches!(choose(&["bench", "compare", "--only", "infer"]), Some(Chosen::Compare(_))));
        for (index, step) in STEPS.iter().enumerate() {
            assert_eq!(choose(&[step.name]), Some(Chosen::Step(index)));
            assert!(usage().contains(step.name));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for args in [
            &[][..],
            &["cii"],
            &[""],
            &["ci", "now"],
            &["gpu", "--example"],
            &["gpu", "--example", ""],
            &["bench"],
        ] {
            assert_eq!(choose(args), None, "{args:?}");
        }
    }
}
