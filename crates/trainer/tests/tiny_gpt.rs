//! The reference model of `tests/data/tiny_gpt.*`, trained from its recorded weights on its recorded batches, follows the
//! losses that PyTorch 2.11 under Lightning 2.6.6 recorded at each precision.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "../examples/compare/gpt.rs"]
mod gpt;

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use optim::{AdamW, AdamWConfig};
use serde::Deserialize;
use trainer::{Fit, Optimization, Parameters, Trainer, TrainingModule};

use gpt::{Gpt, GptConfig};

const STEPS: usize = 60;

fn data(file: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "data", file].iter().collect()
}

/// What was recorded for one precision.
#[derive(Deserialize)]
struct Recorded {
    loss: Vec<Option<f64>>,
}

fn recorded(precision: &str) -> Vec<f64> {
    #[derive(Deserialize)]
    struct File {
        runs: HashMap<String, Recorded>,
    }
    let json = std::fs::read_to_string(data("tiny_gpt.cpu.json")).unwrap();
    let mut file: File = serde_json::from_str(&json).unwrap();
    let losses = file.runs.remove(precision).unwrap().loss;
    losses.into_iter().map(|loss| loss.unwrap_or(f64::NAN)).collect()
}

#[derive(Default)]
struct TinyGpt(Option<Gpt>);

impl TrainingModule for TinyGpt {
    type Batch = (Tensor, Tensor);

    fn configure_model(&mut self, vb: VarBuilder) -> trainer::Result<()> {
        let config = GptConfig { vocabulary: 96, context: 32, width: 64, heads: 4, layers: 2 };
        self.0 = Some(Gpt::new(config, vb)?);
        Ok(())
    }

    fn training_step(&self, (inputs, targets): &Self::Batch) -> trainer::Result<Tensor> {
        let logits = self.0.as_ref().unwrap().forward(inputs)?;
        let options = autocast::ops::CrossEntropy::default();
        Ok(autocast::ops::cross_entropy(&logits.flatten_to(1)?, &targets.flatten_all()?, &options)?)
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        let config = AdamWConfig { lr: 1e-3, betas: (0.9, 0.95), eps: 1e-8, weight_decay: 0.1 };
        Ok(Optimization::new(AdamW::new(parameters.to_named(), config)?))
    }
}

fn train(precision: &str) -> Fit {
    let tensors = candle_core::safetensors::load(data("tiny_gpt.safetensors"), &Device::Cpu).unwrap();
    let weights =
        tensors.iter().filter_map(|(name, t)| Some((name.strip_prefix("w.")?.to_string(), t.clone())));
    let trainer = Trainer::builder()
        .precision(precision)
        .accelerator("cpu")
        .max_steps(STEPS)
        .initial_values(weights.collect())
        .build()
        .unwrap();
    let batches = (0..STEPS).map(|i| {
        let batch = |name: &str| tensors[name].get(i % 8).unwrap();
        (batch("x"), batch("y"))
    });
    trainer.fit(&mut TinyGpt::default(), batches).unwrap()
}

/// Every loss is within `tolerance` of the recorded one, relative to it.
#[track_caller]
fn check_follows(precision: &str, tolerance: f64) {
    let fit = train(precision);
    assert_eq!(fit.losses.len(), STEPS);
    for (step, (loss, recorded)) in fit.losses.iter().zip(recorded(precision)).enumerate() {
        let error = (loss - recorded).abs() / recorded;
        assert!(error <= tolerance, "{precision} step {step}: {loss} for {recorded}, off by {error:.2e}");
    }
}

/// The mean of the last eight losses, one of each batch, is finite and within `tolerance` of 32-true's recorded one.
#[track_caller]
fn check_lands(precision: &str, tolerance: f64) {
    let mean = |losses: &[f64]| losses[STEPS - 8..].iter().sum::<f64>() / 8.;
    let fit = train(precision);
    assert!(fit.losses.iter().all(|loss| loss.is_finite()), "{precision}: {:?}", fit.losses);
    let (landed, wanted) = (mean(&fit.losses), mean(&recorded("32-true")));
    assert!((landed - wanted).abs() <= tolerance * wanted, "{precision}: {landed} for {wanted}");
}

#[test]
fn f32_true_follows_the_recorded_losses() {
    check_follows("32-true", 2e-5);
}

#[test]
fn f64_true_follows_the_recorded_losses() {
    check_follows("64-true", 5e-8);
}

#[test]
fn bf16_mixed_follows_the_recorded_losses() {
    check_follows("bf16-mixed", 5e-3);
}

#[test]
fn f16_true_lands_where_f32_does() {
    check_lands("16-true", 2e-2);
}

#[test]
fn bf16_true_lands_where_f32_does() {
    check_lands("bf16-true", 1e-2);
}
