//! The command line, and everything about it that can be wrong before a run starts.

use std::path::PathBuf;

use candle_core::{DType, Device};
use clap::Parser;
use trainer::{Accelerator, IntoPrecision, Notice, Precision, Trainer};

/// Tokens of a step that are several rows of either task.
const LEAST_TOKENS: usize = 256;

/// Trains one small GPT from the same weights at every precision, and compares them.
#[derive(Debug, Parser)]
#[command(name = "compare", args_override_self = true)]
pub(crate) struct Options {
    /// The precisions to compare, separated by commas [default: all that the accelerator supports]
    #[arg(long, value_name = "P[,P]", value_delimiter = ',')]
    precision: Vec<String>,

    /// Where to train: auto, cpu or gpu
    #[arg(long, default_value = "auto")]
    accelerator: String,

    /// Training steps of each run [default: 400, and 120 of the larger model of a CPU]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,

    /// Seed of the weights and of the batches
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,

    /// Layers of the model [default: 2, on a GPU 8]
    #[arg(long, value_name = "N")]
    layers: Option<usize>,

    /// Its width, a multiple of 64 [default: 64, on a CPU with a fast 16-bit product 384, on a GPU 1024: 16 bits
    /// pay where products are large]
    #[arg(long, value_name = "N")]
    width: Option<usize>,

    /// Tokens of a step [default: 1024, on a GPU 16384]
    #[arg(long, value_name = "N")]
    tokens: Option<usize>,

    /// A UTF-8 text to train on instead of sums
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Option<PathBuf>,

    /// Where report.html and report.json go
    #[arg(long, value_name = "DIR", default_value = "target/compare")]
    pub(crate) out: PathBuf,
}

/// How large a model is, and what it sees in a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) layers: usize,
    pub(crate) width: usize,
    pub(crate) tokens: usize,
}

impl Options {
    /// What was asked for, or what shows on this accelerator what 16 bits are worth.
    pub(crate) fn size(&self, accelerator: Accelerator) -> Result<Size, String> {
        let usual = match accelerator {
            Accelerator::Cpu if is_fast_in_16_bits() => Size { layers: 2, width: 384, tokens: 1_024 },
            Accelerator::Cpu => Size { layers: 2, width: 64, tokens: 1_024 },
            _ => Size { layers: 8, width: 1_024, tokens: 16_384 },
        };
        let size = Size {
            layers: self.layers.unwrap_or(usual.layers),
            width: self.width.unwrap_or(usual.width),
            tokens: self.tokens.unwrap_or(usual.tokens),
        };
        if size.layers == 0 || size.width == 0 || !size.width.is_multiple_of(64) {
            return Err(format!(
                "a model of {} layers of width {}: give --layers of 1 or more and --width of a multiple of 64",
                size.layers, size.width
            ));
        }
        if size.tokens < LEAST_TOKENS {
            return Err(format!("--tokens {}: give {LEAST_TOKENS} or more, a few rows", size.tokens));
        }
        Ok(size)
    }

    /// The steps of each run. A wide model takes as long for a few as a small one for many, and learns more from each.
    pub(crate) fn steps(&self, accelerator: Accelerator) -> usize {
        let usual = if accelerator == Accelerator::Cpu && is_fast_in_16_bits() { 120 } else { 400 };
        self.steps.unwrap_or(usual)
    }

    /// The trainers of all runs, so that a wrong option stops the program before the first run and not between two.
    pub(crate) fn trainers(&self) -> trainer::Result<Vec<Trainer>> {
        if self.precision.is_empty() {
            return supported(self.accelerator()?).map(|precision| self.trainer(precision)).collect();
        }
        let mut trainers: Vec<Trainer> = Vec::new();
        for name in &self.precision {
            let trainer = self.trainer(name.as_str())?;
            if let Some(notice) = trainer.notice() {
                eprintln!("note: {notice}");
            }
            if trainers.iter().all(|earlier| earlier.precision() != trainer.precision()) {
                trainers.push(trainer);
            }
        }
        Ok(trainers)
    }

    fn trainer(&self, precision: impl IntoPrecision) -> trainer::Result<Trainer> {
        Trainer::builder()
            .precision(precision)
            .accelerator(self.accelerator.as_str())
            .max_steps(self.steps(self.accelerator()?))
            .seed(self.seed)
            // That a CPU has no fast 16-bit product is said once, and not at each precision.
            .on_notice(|notice| {
                if !matches!(notice, Notice::NoFastProduct { .. }) {
                    eprintln!("note: {notice}");
                }
            })
            .build()
    }

    /// What is asked for, or what this machine has.
    pub(crate) fn accelerator(&self) -> trainer::Result<Accelerator> {
        Ok(Trainer::builder().accelerator(self.accelerator.as_str()).build()?.accelerator())
    }
}

/// Whether this CPU multiplies 16-bit numbers faster than f32.
pub(crate) fn is_fast_in_16_bits() -> bool {
    autocast::has_fast_product(DType::BF16, &Device::Cpu)
}

/// 32-true first, because the others are compared with it.
fn supported(accelerator: Accelerator) -> impl Iterator<Item = Precision> {
    let others = Precision::ALL.into_iter().filter(|&precision| precision != Precision::F32True);
    std::iter::once(Precision::F32True)
        .chain(others)
        .filter(move |precision| precision.supported_on(accelerator).is_ok())
}
