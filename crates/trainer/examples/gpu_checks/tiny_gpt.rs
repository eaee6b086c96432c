//! The reference model on a GPU, against the losses and loss scales that PyTorch recorded on one.

use autocast::ops::CrossEntropy;
use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use grad_scaler::ScalerConfig;
use optim::{AdamW, AdamWConfig};
use serde::Deserialize;
use std::collections::HashMap;
use trainer::{Optimization, Parameters, Trainer, TrainingModule};

use crate::gpt::{Gpt, GptConfig};
use crate::report::{Outcome, Report, wrong};

const STEPS: usize = 60;

/// What was recorded for one precision; a loss that was not finite is null.
#[derive(Deserialize)]
struct Recorded {
    loss: Vec<Option<f64>>,
    #[serde(default)]
    scale_after_step: Vec<f64>,
}

#[derive(Deserialize)]
struct File {
    runs: HashMap<String, Recorded>,
}

/// Losses and loss scales of one run.
struct Trained {
    losses: Vec<f64>,
    scales: Vec<f64>,
}

pub(crate) fn run(report: &mut Report) {
    for (precision, tolerance) in [("32-true", 2e-5), ("64-true", 5e-8), ("bf16-mixed", 5e-3)] {
        let name = format!("tiny_gpt {precision}: 60 losses within {tolerance:e}");
        report.check(&name, || follows(precision, tolerance));
    }
    for (precision, tolerance) in [("16-true", 2e-2), ("bf16-true", 1e-2)] {
        let name = format!("tiny_gpt {precision}: lands within {tolerance} of 32-true");
        report.check(&name, || lands(precision, tolerance));
    }
    for (run, init_scale) in [("16-mixed", 2f64.powi(16)), ("16-mixed@2^40", 2f64.powi(40))] {
        report.check(&format!("tiny_gpt {run}: losses until a skip, and every scale"), || {
            mixed(run, init_scale)
        });
    }
}

fn follows(precision: &str, tolerance: f64) -> Outcome<String> {
    let trained = train(precision, None)?;
    let worst = worst_error(&trained.losses, &recorded(precision)?.loss);
    if worst > tolerance {
        return wrong(format!("off by {worst:.2e}"));
    }
    Ok(format!("off by at most {worst:.2e}"))
}

fn lands(precision: &str, tolerance: f64) -> Outcome<String> {
    let mean = |losses: &[f64]| losses[STEPS - 8..].iter().sum::<f64>() / 8.;
    let wanted: Vec<f64> = recorded("32-true")?.loss.into_iter().flatten().collect();
    let error = mean(&train(precision, None)?.losses) / mean(&wanted) - 1.;
    match error.abs() <= tolerance {
        true => Ok(format!("off by {error:.2e}")),
        false => wrong(format!("off by {error:.2e}")),
    }
}

fn mixed(run: &str, init_scale: f64) -> Outcome<String> {
    let recorded = recorded(run)?;
    let trained = train("16-mixed", Some(ScalerConfig::new(init_scale, 2., 0.5, 10)?))?;
    if let Some(step) = (0..STEPS).find(|&step| trained.scales[step] != recorded.scale_after_step[step]) {
        let (got, want) = (trained.scales[step], recorded.scale_after_step[step]);
        return wrong(format!("scale {got} after step {step}, recorded {want}"));
    }
    // A scale that shrank tells of a skip; up to it, the losses depend on the arithmetic alone.
    let before = std::iter::once(&init_scale).chain(&recorded.scale_after_step);
    let skip = before.zip(&recorded.scale_after_step).position(|(before, after)| after < before);
    let compared = skip.map_or(STEPS, |step| step + 1);
    let worst = worst_error(&trained.losses[..compared], &recorded.loss[..compared]);
    if worst > 5e-3 {
        return wrong(format!("off by {worst:.2e} in the first {compared} losses"));
    }
    Ok(format!("{compared} losses off by at most {worst:.2e}, 60 scales equal"))
}

/// The largest relative error; NaN counts as infinite.
fn worst_error(losses: &[f64], recorded: &[Option<f64>]) -> f64 {
    let errors = losses.iter().zip(recorded).map(|(loss, recorded)| match recorded {
        Some(recorded) if loss.is_finite() => (loss - recorded).abs() / recorded,
        None if !loss.is_finite() => 0.,
        _ => f64::INFINITY,
    });
    errors.fold(0., f64::max)
}

fn recorded(run: &str) -> Outcome<Recorded> {
    let mut file: File = serde_json::from_str(include_str!("../../tests/data/tiny_gpt.gpu.json"))?;
    file.runs.remove(run).ok_or_else(|| format!("{run} was not recorded").into())
}

fn train(precision: &str, scaling: Option<ScalerConfig>) -> Outcome<Trained> {
    let file = include_bytes!("../../tests/data/tiny_gpt.safetensors");
    let tensors = candle_core::safetensors::load_buffer(file, &Device::Cpu)?;
    let weights =
        tensors.iter().filter_map(|(name, t)| Some((name.strip_prefix("w.")?.to_string(), t.clone())));
    let builder = Trainer::builder().precision(precision).accelerator("gpu").max_steps(STEPS);
    let builder = builder.initial_values(weights.collect());
    let trainer = match scaling {
        Some(config) => builder.loss_scaling(config).build()?,
        None => builder.build()?,
    };
    let batch = |i: usize| Ok((tensors["x"].get(i % 8)?, tensors["y"].get(i % 8)?));
    let batches = (0..STEPS).map(batch).collect::<candle_core::Result<Vec<_>>>()?;
    let mut scales = Vec::new();
    let fit = trainer.fit_with(&mut TinyGpt::default(), batches, |step| {
        scales.push(f64::from(step.loss_scale()));
        Ok(())
    })?;
    Ok(Trained { losses: fit.losses, scales })
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
        let logits = self.0.as_ref().expect("configured before the first step").forward(inputs)?;
        let options = CrossEntropy::default();
        Ok(autocast::ops::cross_entropy(&logits.flatten_to(1)?, &targets.flatten_all()?, &options)?)
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        let config = AdamWConfig { lr: 1e-3, betas: (0.9, 0.95), eps: 1e-8, weight_decay: 0.1 };
        Ok(Optimization::new(AdamW::new(parameters.to_named(), config)?))
    }
}
