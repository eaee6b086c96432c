//! A GPT that learns a text byte by byte, with all that one wants to see of a fit: a progress bar, a validation loss, a CSV and
//! a TensorBoard log, and a report to open in a browser.
//!
//! `cargo run --release --example 03_gpt_on_text -- [FILE.txt]` (`--short` takes fewer steps); without a file it learns this
//! project's README.

#[path = "compare/gpt.rs"]
mod gpt;

use std::path::Path;

use gpt::{GptConfig, LanguageModel};
use trainer::callbacks::{LearningRateMonitor, PrintModelSummary};
use trainer::candle_core::{Device, Tensor};
use trainer::data::{Dataset, LastBatch, Loader, LoaderConfig, Order};
use trainer::optim::{AdamWConfig, Schedule};
use trainer::{CsvLogger, HtmlReport, ProgressBar, TensorBoardLogger, Trainer};

const CONTEXT: usize = 64;
const SIZE: GptConfig = GptConfig { vocabulary: 256, context: CONTEXT, width: 64, heads: 4, layers: 2 };

/// Windows of a text: bytes, and the bytes that follow them.
struct Windows {
    text: Vec<u8>,
    /// Bytes from one window's beginning to the next one's.
    stride: usize,
}

impl Dataset for Windows {
    type Item = (Tensor, Tensor);

    fn len(&self) -> usize {
        self.text.len().saturating_sub(CONTEXT) / self.stride
    }

    fn get(&self, index: usize) -> trainer::Result<Self::Item> {
        let start = index * self.stride;
        let bytes = |from: usize| {
            let bytes: Vec<u32> = self.text[from..from + CONTEXT].iter().map(|&byte| byte.into()).collect();
            Tensor::new(bytes, &Device::Cpu)
        };
        Ok((bytes(start)?, bytes(start + 1)?))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (short, file) = arguments();
    let (steps, out) = (if short { 20 } else { 600 }, Path::new("target/03_gpt_on_text"));
    let mut text = match file {
        Some(file) => std::fs::read(file)?,
        None => include_bytes!("../../../README.md").to_vec(),
    };
    let held_out = text.split_off(text.len() * 9 / 10);
    let config =
        LoaderConfig { batch_size: 16, workers: 1, last_batch: LastBatch::Drop, ..Default::default() };
    let order = Order::Shuffled { seed: 1 };
    let train = Loader::new(Windows { text, stride: 1 }, LoaderConfig { order, ..config.clone() })?;
    let validation = Loader::new(Windows { text: held_out, stride: CONTEXT / 8 }, config)?;

    let trainer = Trainer::builder()
        .precision("bf16-mixed")
        .max_steps(steps)
        .val_check_interval(steps / 4)
        .limit_val_batches(2)
        .log_every_n_steps(10)
        .callback(PrintModelSummary::default())
        .callback(ProgressBar::new())
        .callback(LearningRateMonitor::new(10)?)
        .callback(HtmlReport::new(out.join("report.html")).every_n_steps(10)?.with_title("A GPT on text"))
        .logger(CsvLogger::new(out.join("metrics.csv")))
        .logger(TensorBoardLogger::new(out.join("tensorboard")))
        .build()?;
    let schedule = Schedule::cosine(3e-3, steps as u64)?.with_warmup(steps as u64 / 10);
    let model = LanguageModel { size: SIZE, adamw: AdamWConfig::default(), schedule: Some(schedule) };
    let fit = trainer.fit_validated(&model, &train, &validation)?;
    println!(
        "loss {:.3} -> {:.3}, held out {:?}",
        fit.losses[0],
        fit.losses[steps - 1],
        fit.metrics.get("val_loss")
    );

    let mut written = b"The ".to_vec();
    for _ in 0..if short { 8 } else { 120 } {
        let last: Vec<u32> = written.iter().rev().take(CONTEXT).rev().map(|&byte| byte.into()).collect();
        let bytes = Tensor::new(last, trainer.device())?.unsqueeze(0)?;
        let logits = trainer.infer(|| Ok(fit.model.forward(&bytes)?))?;
        let of_last = logits.get(0)?.get(bytes.dim(1)? - 1)?;
        written.push(of_last.argmax(0)?.to_scalar::<u32>()? as u8);
    }
    println!("it writes: {}", String::from_utf8_lossy(&written).escape_debug());
    println!("{}", out.join("report.html").display());
    Ok(())
}

/// Whether `--short` was given, and a file.
fn arguments() -> (bool, Option<String>) {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let before = arguments.len();
    arguments.retain(|argument| argument != "--short");
    (arguments.len() < before, arguments.pop())
}
