//! The command line, and everything about it that can be wrong before a run starts.

use std::path::PathBuf;

use clap::Parser;
use trainer::{Accelerator, IntoPrecision, Precision, Trainer};

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

    /// Training steps of each run
    #[arg(long, default_value_t = 400)]
    pub(crate) steps: usize,

    /// Seed of the weights and of the batches
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,

    /// A UTF-8 text to train on instead of sums
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Option<PathBuf>,

    /// Where report.html and report.json go
    #[arg(long, value_name = "DIR", default_value = "target/compare")]
    pub(crate) out: PathBuf,
}

impl Options {
    /// The trainers of all runs, so that a wrong option stops the program before the first run and not between two.
    pub(crate) fn trainers(&self) -> trainer::Result<Vec<Trainer>> {
        if self.precision.is_empty() {
            let accelerator = self.trainer(Precision::F32True)?.accelerator();
            return supported(accelerator).map(|precision| self.trainer(precision)).collect();
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
            .max_steps(self.steps)
            .seed(self.seed)
            .build()
    }
}

/// 32-true first, because the others are compared with it.
fn supported(accelerator: Accelerator) -> impl Iterator<Item = Precision> {
    let others = Precision::ALL.into_iter().filter(|&precision| precision != Precision::F32True);
    std::iter::once(Precision::F32True)
        .chain(others)
        .filter(move |precision| precision.supported_on(accelerator).is_ok())
}
