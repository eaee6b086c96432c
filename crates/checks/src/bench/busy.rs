//! What other work on the machine's CPUs costs: steps of gpt_mini, and the elementwise ops of such a step by candle's own kernels,
//! alone and beside a busy thread for each CPU. candle's threads wait for each other in a loop after every op.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use candle_core::{Device, Tensor};
use clap::Args;
use serde::Serialize;
use trainer::{Precision, Trainer};

use super::line::{self, median, round};
use super::workload::{Learner, Workload};
use crate::report::Outcome;

/// Steps at the start that are not timed.
const WARM_UP: usize = 3;

/// Elementwise ops of a step of gpt_mini, forward and backward, about.
const CANDLE_OPS: usize = 100;

/// A step alone and beside busy threads.
#[derive(Debug, Args)]
pub struct Busy {
    /// The precision
    #[arg(long, default_value_t = Precision::F32True)]
    precision: Precision,

    /// Steps of each kind
    #[arg(long, value_name = "N", default_value_t = 8)]
    steps: usize,

    /// Busy threads [default: as many as there are CPUs]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Compared {
    w: &'static str,
    p: String,
    /// Busy threads.
    busy: usize,
    /// The median of a step, in milliseconds, without them and with them.
    alone_ms: f64,
    beside_ms: f64,
    times: f64,
}

pub(crate) fn run(busy: &Busy) -> Outcome<bool> {
    let threads = match busy.threads {
        Some(threads) => threads,
        None => std::thread::available_parallelism()?.get(),
    };
    let steps = busy.steps.max(1);
    let compared = |w, [alone, beside]: [f64; 2]| Compared {
        w,
        p: busy.precision.to_string(),
        busy: threads,
        alone_ms: round(1e3 * alone, 2),
        beside_ms: round(1e3 * beside, 2),
        times: round(beside / alone, 2),
    };
    line::print(&compared("gpt_mini", ours(busy.precision, steps, threads)?))?;
    line::print(&compared("candle's elementwise ops", candles(steps, threads)?))?;
    Ok(true)
}

/// A step of ours, in seconds, alone and beside busy threads.
fn ours(precision: Precision, steps: usize, threads: usize) -> Outcome<[f64; 2]> {
    let kind = Workload::GptMini.kind();
    let builder = Trainer::builder().precision(precision).accelerator("cpu").max_steps(WARM_UP + 2 * steps);
    let trainer = builder.seed(0).on_notice(|_| ()).build()?;
    let batches = trainer.prepare(kind.batches(16, trainer.device())?)?;
    let mut laps = Laps::new(steps, threads);
    trainer.fit_with(&Learner::new(kind), batches.iter().cycle().cloned(), |step| {
        step.loss()?;
        laps.push();
        Ok(())
    })?;
    laps.medians()
}

/// The same for sums and products of activations of that step by candle.
fn candles(steps: usize, threads: usize) -> Outcome<[f64; 2]> {
    let x = Tensor::ones((16 * 128, 1024), candle_core::DType::F32, &Device::Cpu)?;
    let mut laps = Laps::new(steps, threads);
    for _ in 0..WARM_UP + 2 * steps {
        for _ in 0..CANDLE_OPS / 2 {
            ((&x + &x)? * &x)?;
        }
        laps.push();
    }
    laps.medians()
}

/// The times of steps, in the second half of which other threads are busy.
struct Laps {
    steps: usize,
    threads: usize,
    busy: Option<Spinning>,
    last: Instant,
    seconds: Vec<f64>,
}

impl Laps {
    fn new(steps: usize, threads: usize) -> Self {
        Self { steps, threads, busy: None, last: Instant::now(), seconds: Vec::new() }
    }

    fn push(&mut self) {
        self.seconds.push(self.last.elapsed().as_secs_f64());
        if self.seconds.len() == WARM_UP + self.steps {
            self.busy = Some(Spinning::start(self.threads));
        }
        self.last = Instant::now();
    }

    fn medians(self) -> Outcome<[f64; 2]> {
        let timed = self.seconds.get(WARM_UP..).unwrap_or_default();
        let (alone, beside) = timed.split_at(self.steps.min(timed.len()));
        match (median(alone), median(beside)) {
            (Some(alone), Some(beside)) => Ok([alone, beside]),
            _ => Err("the fit ended before all steps were timed".into()),
        }
    }
}

/// Threads that do nothing but keep CPUs busy, until this is dropped.
struct Spinning {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Spinning {
    fn start(count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let spin = || {
            let stop = stop.clone();
            std::thread::spawn(move || while !stop.load(Ordering::Relaxed) {})
        };
        Self { threads: (0..count).map(|_| spin()).collect(), stop }
    }
}

impl Drop for Spinning {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked is not busy either.
            let _ = thread.join();
        }
    }
}
