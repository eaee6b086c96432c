//! What a fit takes beside a bare loop of the same ops on gpt_mini. Their steps alternate in one process, so that both meet the
//! same machine: each time is of a pair of steps.

use std::time::Instant;

use autocast::Autocast;
use candle_core::Tensor;
use clap::Args;
use grad_scaler::{GradScaler, ScalerConfig};
use optim::AdamW;
use serde::Serialize;
use trainer::{Parameters, Precision, Trainer, TrainingModule};

use super::Options;
use super::line::{self, median, round};
use super::workload::{Learner, Net, Pair, Workload, adamw};
use crate::report::Outcome;

/// Pairs of steps at the start that are not timed.
const WARM_UP: usize = 5;

/// The default number of pairs.
const STEPS: usize = 60;

/// A fit beside a bare loop.
#[derive(Debug, Args)]
pub struct Overhead {
    /// The precisions, separated by commas
    #[arg(
        long = "precision",
        value_name = "P[,P]",
        value_delimiter = ',',
        default_value = "32-true,bf16-mixed"
    )]
    precisions: Vec<Precision>,

    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Serialize)]
struct Compared {
    w: &'static str,
    p: String,
    bs: usize,
    /// Medians, in milliseconds.
    bare_ms: f64,
    fit_ms: f64,
    /// The median over pairs of steps of what the fit's takes more, as a share of the bare one.
    overhead: f64,
    /// The quarter of the pairs below which that is less, and above which it is more.
    quartiles: [f64; 2],
}

pub(crate) fn run(overhead: &Overhead) -> Outcome<bool> {
    for &precision in &overhead.precisions {
        line::print(&compare(precision, &overhead.options)?)?;
    }
    Ok(true)
}

fn compare(precision: Precision, options: &Options) -> Outcome<Compared> {
    let workload = Workload::GptMini;
    let steps = options.steps.unwrap_or(STEPS).max(1);
    let accelerator = options.accelerator.unwrap_or(workload.accelerator());
    let bs = options.bs.unwrap_or(workload.batch_size(accelerator));
    let builder = Trainer::builder().precision(precision).accelerator(accelerator).seed(0);
    let trainer = builder.max_steps(WARM_UP + steps).on_notice(|_| ()).build()?;
    let device = trainer.device();
    let batches = trainer.prepare(workload.kind().batches(bs, device)?)?;
    let learner = Learner::new(workload.kind());
    let mut bare = Bare::new(&trainer, &learner)?;
    let mut times: Vec<(f64, f64)> = Vec::new();
    let mut next = batches.iter().cycle();
    device.synchronize()?;
    let mut since = Instant::now();
    trainer.fit_with(&learner, batches.iter().cycle().cloned(), |_| {
        device.synchronize()?;
        let fit = since.elapsed().as_secs_f64();
        let start = Instant::now();
        if let Some(batch) = next.next() {
            bare.step(batch).map_err(|error| trainer::Error::Other(error.to_string().into()))?;
        }
        device.synchronize()?;
        times.push((start.elapsed().as_secs_f64(), fit));
        since = Instant::now();
        Ok(())
    })?;
    let timed = times.split_off(WARM_UP);
    let (bare, fit): (Vec<f64>, Vec<f64>) = timed.iter().copied().unzip();
    let mut shares: Vec<f64> = timed.iter().map(|(bare, fit)| fit / bare - 1.).collect();
    shares.sort_by(f64::total_cmp);
    let middle = |values: &[f64]| median(values).unwrap_or(f64::NAN);
    let quartile = |nth: usize| round(shares[(shares.len() - 1) * nth / 4], 5);
    Ok(Compared {
        w: workload.name(),
        p: precision.to_string(),
        bs,
        bare_ms: round(1e3 * middle(&bare), 3),
        fit_ms: round(1e3 * middle(&fit), 3),
        overhead: round(middle(&shares), 5),
        quartiles: [quartile(1), quartile(3)],
    })
}

/// The loop as one writes it by hand.
struct Bare {
    net: Net,
    optimizer: AdamW,
    scaler: GradScaler,
    region: Option<Autocast>,
    /// Kept as a fit keeps them, and not read.
    losses: Vec<Tensor>,
}

impl Bare {
    fn new(trainer: &Trainer, learner: &Learner) -> Outcome<Self> {
        let (net, parameters): (Net, Parameters) = trainer.init_module(|vb| learner.build(vb))?;
        let (precision, device) = (trainer.precision(), trainer.device());
        let scaler = match precision.needs_loss_scaling() {
            true => GradScaler::new(ScalerConfig::recommended(), device)?,
            false => GradScaler::skipping(device)?,
        };
        let region = Autocast::for_precision(precision, trainer.accelerator())?;
        Ok(Self { net, optimizer: adamw(&parameters)?, scaler, region, losses: Vec::new() })
    }

    fn step(&mut self, batch: &Pair) -> Outcome<()> {
        let forward = || self.net.loss(batch);
        let loss = match &self.region {
            Some(region) => region.run(forward)?,
            None => forward()?,
        };
        self.losses.push(loss.detach());
        let scaled = self.scaler.scale(&loss)?;
        drop(loss);
        let grads = autocast::narrow_gradients(scaled)?;
        self.scaler.step(&mut self.optimizer, &grads)?;
        self.scaler.update()?;
        autocast::parameters_changed();
        Ok(())
    }
}
