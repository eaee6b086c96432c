//! Timings and memory, each printed as a line of JSON. They live here and never in tests.

mod busy;
mod clock;
mod infer;
mod line;
mod memory;
mod op_cases;
mod ops;
mod overhead;
#[cfg(feature = "cuda")]
mod step;
mod train;
pub(crate) mod workload;

use clap::{Args, Subcommand};
use trainer::{Accelerator, CudaGraph, Precision, Trainer, TrainerBuilder};

use crate::report::Outcome;

pub use busy::Busy;
pub use line::Line;
pub use ops::Ops;
pub use overhead::Overhead;
pub use workload::Workload;

/// What is measured.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Steps of training
    Train(Runs),
    /// Forward passes over rows of tokens
    Infer(Runs),
    /// A fit beside a bare loop of the same ops, on gpt_mini
    Overhead(overhead::Overhead),
    /// Steps of gpt_mini and candle's ops beside busy threads, on a CPU
    Busy(busy::Busy),
    /// Single ops on a GPU, forward and backward apart
    Ops(ops::Ops),
    /// The optimizer's step on a GPU
    Step,
}

/// Every workload at every precision.
#[derive(Debug, Args)]
pub struct Runs {
    /// The workloads, separated by commas
    #[arg(value_enum, value_name = "W[,W]", value_delimiter = ',', required = true)]
    workloads: Vec<Workload>,

    /// The precisions, separated by commas [default: all that the accelerator supports]
    #[arg(long = "precision", value_name = "P[,P]", value_delimiter = ',')]
    precisions: Vec<Precision>,

    #[command(flatten)]
    options: Options,
}

/// What is not as the workload has it.
#[derive(Debug, Default, Args)]
pub struct Options {
    /// Samples in a batch [default: the workload's]
    #[arg(long, value_name = "N")]
    pub(crate) bs: Option<usize>,

    /// Pixels on a side of an image [default: 112]
    #[arg(long, value_name = "N")]
    pub(crate) side: Option<usize>,

    /// Steps, the first of which are not timed [default: the workload's]
    #[arg(long, value_name = "N")]
    pub(crate) steps: Option<usize>,

    /// Where to run: cpu or gpu [default: where the workload is meant to run]
    #[arg(long)]
    pub(crate) accelerator: Option<Accelerator>,

    /// Whether products and convolutions of f32 may round to TF32 first, on a GPU
    #[arg(long)]
    pub(crate) tf32: bool,

    /// Whether weights of 16 bits are rounded by chance in training, and have no f32 masters
    #[arg(long)]
    pub(crate) stochastic: bool,

    /// Whether passes are recorded as a CUDA graph, on a GPU
    #[arg(long)]
    pub(crate) cuda_graph: bool,

    /// Whether algorithms of products and convolutions are chosen by the clock, on a GPU
    #[arg(long)]
    pub(crate) benchmark: bool,
}

impl Options {
    /// A trainer with what was asked for of its passes and algorithms.
    fn trainer(&self, precision: Precision, accelerator: Accelerator) -> TrainerBuilder {
        let graph = if self.cuda_graph { CudaGraph::Passes } else { CudaGraph::Off };
        let builder = Trainer::builder().precision(precision).accelerator(accelerator).cuda_graph(graph);
        if self.benchmark { builder.benchmark() } else { builder }
    }

    /// A line that says so, of a workload yet to be measured.
    fn line(&self, workload: Workload, precision: Precision, bs: usize) -> Line {
        let (graph, timed) = (self.cuda_graph.then_some(true), self.benchmark.then_some(true));
        Line { w: workload.name().into(), p: precision.to_string(), bs, graph, timed, ..Line::default() }
    }
}

/// Runs a benchmark. Whether all of it could be measured.
///
/// # Errors
/// A device that is not there or fails. A workload that fails is a line with an error.
pub fn run(bench: &Bench) -> Outcome<bool> {
    match bench {
        Bench::Train(runs) => runs.each(train::train),
        Bench::Infer(runs) => runs.each(infer::infer),
        Bench::Overhead(overhead) => overhead::run(overhead),
        Bench::Busy(busy) => busy::run(busy),
        Bench::Ops(ops) => ops::run(ops),
        Bench::Step => step(),
    }
}

#[cfg(feature = "cuda")]
fn step() -> Outcome<bool> {
    step::run(&crate::device::gpu()?).map(|()| true)
}

#[cfg(not(feature = "cuda"))]
fn step() -> Outcome<bool> {
    crate::device::gpu().map(|_| false)
}

impl Runs {
    fn each(&self, measure: fn(Workload, Precision, &Options) -> Outcome<Line>) -> Outcome<bool> {
        let mut complete = true;
        for &workload in &self.workloads {
            for precision in self.precisions(workload) {
                let line = measure(workload, precision, &self.options).unwrap_or_else(|error| {
                    let accelerator = self.options.accelerator.unwrap_or(workload.accelerator());
                    let bs = self.options.bs.unwrap_or(workload.batch_size(accelerator));
                    let line =
                        Line { w: workload.name().into(), p: precision.to_string(), bs, ..Line::default() };
                    line.failed(&error)
                });
                complete &= line.error.is_none();
                line::print(&line)?;
            }
        }
        Ok(complete)
    }

    fn precisions(&self, workload: Workload) -> Vec<Precision> {
        if !self.precisions.is_empty() {
            return self.precisions.clone();
        }
        let accelerator = self.options.accelerator.unwrap_or(workload.accelerator());
        let supported = |precision: &Precision| precision.supported_on(accelerator).is_ok();
        Precision::ALL.into_iter().filter(supported).collect()
    }
}
