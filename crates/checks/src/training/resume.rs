//! Runs that stop in one process and go on in another, at every precision of a device: in the middle of an epoch, and in the
//! middle of an accumulated step. Each ends as one that never stopped, to the bit.

use std::path::{Path, PathBuf};
use std::process::Command;

use autocast::{nn, ops};
use candle_core::{Device, Module, Tensor};
use candle_nn::VarBuilder;
use clap::Args;
use optim::{AdamW, AdamWConfig, Schedule};
use trainer::{
    Accelerator, Optimization, Parameters, Precision, StepContext, StepOutput, Trainer, TrainerBuilder,
    TrainingModule, TrainingState,
};

use crate::models::closures::{Pair, bits};
use crate::report::{Outcome, Report, wrong};

const STEPS: usize = 20;

/// Batches of an epoch.
const BATCHES: usize = 7;

/// The first half of a run, which is a process of its own.
#[derive(Debug, Args)]
pub struct FirstHalf {
    #[arg(long)]
    accelerator: Accelerator,
    #[arg(long)]
    precision: Precision,
    /// Batches of a step
    #[arg(long)]
    accumulate: usize,
    /// Where its state goes
    #[arg(long)]
    state: PathBuf,
}

/// Every precision that `accelerator` supports.
pub(super) fn run(accelerator: Accelerator, report: &mut Report) {
    for precision in Precision::ALL.into_iter().filter(|p| p.supported_on(accelerator).is_ok()) {
        for accumulate in [1, 4] {
            let name = format!("20 = 10 + 10 in two processes, steps of {accumulate}, at {precision}");
            report.check(&name, || goes_on(accelerator, precision, accumulate));
        }
    }
}

/// Trains until the data fail, after ten steps and at 4 batches a step two batches more, and leaves the state.
///
/// # Errors
/// Those of a fit that did not fail so, and of writing.
pub(super) fn first_half(half: &FirstHalf) -> Outcome<()> {
    let (epoch, at) = if half.accumulate == 1 { (1, 3) } else { (5, 2) };
    let data = batches()?;
    let failing = |now: usize| {
        let batch = move |(index, pair): (usize, Pair)| match (now, index) == (epoch, at) {
            true => Err(trainer::Error::Other("the data end here".into())),
            false => Ok(pair),
        };
        data.clone().into_iter().enumerate().map(batch)
    };
    let trainer = builder(half.accelerator, half.precision, half.accumulate).build()?;
    let Some(fit) = trainer.fit(&Net, failing).err().and_then(trainer::Error::into_fit) else {
        return wrong("the data did not fail");
    };
    Ok(fit.state()?.save(&half.state)?)
}

fn goes_on(accelerator: Accelerator, precision: Precision, accumulate: usize) -> Outcome<String> {
    let folder = std::env::temp_dir().join(format!("checks-resume-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let outcome = compared(accelerator, precision, accumulate, &folder.join("state.safetensors"));
    std::fs::remove_dir_all(&folder)?;
    outcome
}

fn compared(
    accelerator: Accelerator,
    precision: Precision,
    accumulate: usize,
    state: &Path,
) -> Outcome<String> {
    let data = batches()?;
    let fit = |builder: TrainerBuilder| builder.build()?.fit(&Net, &data);
    let straight = fit(builder(accelerator, precision, accumulate))?;
    let child = Command::new(std::env::current_exe()?)
        .args(["first-half", "--accelerator", accelerator.as_str(), "--precision", precision.as_str()])
        .args(["--accumulate", &accumulate.to_string(), "--state"])
        .arg(state)
        .output()?;
    if !child.status.success() {
        return wrong(format!("the first half: {}", String::from_utf8_lossy(&child.stderr)));
    }
    let half = TrainingState::load(state)?;
    let at = half.position;
    if at.step != STEPS / 2 || at.batch == 0 || half.accumulated.batches != at.batch * (accumulate / 4) {
        return wrong(format!("the first half stopped at {at:?}"));
    }
    let rest = fit(builder(accelerator, precision, accumulate).resume(half))?;
    let (straight, rest) = (bits(&straight), bits(&rest));
    if rest.0 != straight.0[STEPS / 2..] {
        return wrong(format!("losses {:?} for {:?}", rest.0, &straight.0[STEPS / 2..]));
    }
    if rest.1 != straight.1 {
        return wrong("the losses are the same, and the parameters differ");
    }
    Ok(format!("resumed in epoch {} at batch {}: to the bit", at.epoch, at.batch))
}

fn builder(accelerator: Accelerator, precision: Precision, accumulate: usize) -> TrainerBuilder {
    let builder = Trainer::builder().precision(precision).accelerator(accelerator).seed(7).on_notice(|_| ());
    builder.max_steps(STEPS).accumulate_grad_batches(accumulate)
}

/// No two alike.
fn batches() -> candle_core::Result<Vec<Pair>> {
    let number = |at: usize| ((at * 7919 + 13) % 2001) as f32 / 1e3 - 1.;
    let batch = |nth: usize| {
        let x = Tensor::from_iter((0..8).map(|at| number(8 * nth + at)), &Device::Cpu)?.reshape((4, 2))?;
        let y = x.sum_keepdim(1)?;
        Ok((x, y))
    };
    (0..BATCHES).map(batch).collect()
}

/// A net with all that has a state: dropout, running statistics, moments, a schedule.
struct Net;

struct Layers {
    first: nn::Linear,
    norm: nn::BatchNorm,
    dropout: nn::Dropout,
    last: nn::Linear,
}

impl TrainingModule for Net {
    type Model = Layers;
    type Batch = Pair;

    fn build(&self, vb: VarBuilder) -> trainer::Result<Layers> {
        Ok(Layers {
            first: nn::linear(2, 8, vb.pp("first"))?,
            norm: nn::batch_norm(8, 1e-5, vb.pp("norm"))?,
            dropout: nn::Dropout::new(0.3),
            last: nn::linear(8, 1, vb.pp("last"))?,
        })
    }

    fn training_step(&self, net: &Layers, (x, y): &Pair, _: &StepContext) -> trainer::Result<StepOutput> {
        let hidden = net.norm.forward_by_mode(&net.first.forward(x)?)?;
        let output = net.last.forward(&net.dropout.forward_by_mode(&hidden)?)?;
        Ok(ops::mse_loss(&output, y, ops::Reduction::Mean)?.into())
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        let adamw = AdamW::new(parameters.to_named(), AdamWConfig { lr: 1e-2, ..Default::default() })?;
        Ok(Optimization::new(adamw).with_schedule(Schedule::cosine(1e-2, 40)?.with_warmup(5)))
    }
}
