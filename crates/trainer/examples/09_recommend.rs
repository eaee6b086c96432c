//! Which precision on this machine, for this model: a few steps at each that it supports, side by side, and the same as a table
//! in the report of the run that follows.
//!
//! `cargo run --release --example 09_recommend` (`--short` takes fewer steps)

#[path = "compare/gpt.rs"]
mod gpt;

use std::path::Path;

use gpt::{GptConfig, LanguageModel};
use trainer::candle_core::{Device, Tensor};
use trainer::optim::AdamWConfig;
use trainer::{HtmlReport, Trainer};

const SIZE: GptConfig = GptConfig { vocabulary: 64, context: 32, width: 64, heads: 4, layers: 2 };

/// Batches of sequences that count on by steps of their own.
fn batches(count: u32) -> trainer::Result<Vec<(Tensor, Tensor)>> {
    let (rows, columns) = (8, SIZE.context as u32);
    let token = |batch: u32, row: u32, column: u32| (batch * 7 + row * 3 + column * (1 + row % 4)) % 64;
    let batch = |batch: u32, ahead: u32| {
        let tokens =
            (0..rows).flat_map(|row| (0..columns).map(move |column| token(batch, row, column + ahead)));
        Tensor::from_iter(tokens, &Device::Cpu)?.reshape((rows as usize, columns as usize))
    };
    (0..count).map(|number| Ok((batch(number, 0)?, batch(number, 1)?))).collect()
}

fn main() -> trainer::Result<()> {
    let short = std::env::args().any(|argument| argument == "--short");
    let (tried, steps) = if short { (4, 10) } else { (20, 200) };
    let batches = batches(8)?;
    let adamw = AdamWConfig { lr: 3e-3, ..Default::default() };
    let model = LanguageModel { size: SIZE, adamw, schedule: None };

    let recommendation = Trainer::recommend_on("auto", &model, &batches, tried)?;
    println!("{recommendation}");
    let Some(precision) = recommendation.fastest() else {
        println!("no precision trains this model safely: look at its losses");
        return Ok(());
    };

    let out = Path::new("target/09_recommend/report.html");
    let report = HtmlReport::new(out).every_n_steps(5)?.with_recommendation(&recommendation);
    let trainer = Trainer::builder().precision(precision).max_steps(steps).callback(report).build()?;
    let fit = trainer.fit(&model, batches.iter().cycle().cloned())?;
    println!("{precision}: loss {:.3} -> {:.3}; {}", fit.losses[0], fit.losses[steps - 1], out.display());
    Ok(())
}
