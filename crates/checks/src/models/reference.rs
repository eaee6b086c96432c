//! The reference model: a 2-layer GPT with recorded initial weights and batches, and the losses and loss scales that
//! PyTorch 2.11 under Lightning 2.6.6 recorded for it at each precision, on a CPU and on a GPU.

use std::collections::HashMap;

use candle_core::Device;
use grad_scaler::ScalerConfig;
use optim::AdamWConfig;
use serde::Deserialize;
use trainer::{Accelerator, Trainer};

use super::next_token::NextToken;
use super::{GptConfig, Head, Initial};

/// Steps that were recorded.
pub const STEPS: usize = 60;

/// What was recorded at one precision. A loss that was not finite is `None`.
#[derive(Deserialize)]
pub struct Recorded {
    /// By step.
    pub loss: Vec<Option<f64>>,
    /// For 16-mixed only.
    #[serde(default)]
    pub scale_after_step: Vec<f64>,
}

/// The recording of one run, named by its precision.
///
/// # Panics
/// Where there is none of that name.
pub fn recorded(accelerator: Accelerator, run: &str) -> Recorded {
    #[derive(Deserialize)]
    struct File {
        runs: HashMap<String, Recorded>,
    }
    let json = match accelerator {
        Accelerator::Gpu => include_str!("../../data/tiny_gpt.gpu.json"),
        _ => include_str!("../../data/tiny_gpt.cpu.json"),
    };
    let mut file: File = serde_json::from_str(json).expect("the recording is JSON of this form");
    file.runs.remove(run).unwrap_or_else(|| panic!("{run} was not recorded"))
}

/// Losses, and the loss scale after each step.
pub struct Trained {
    /// By step.
    pub losses: Vec<f64>,
    /// After each step.
    pub scales: Vec<f64>,
}

/// Trains the reference model from its recorded weights; step i uses batch i mod 8.
///
/// # Errors
/// Those of a fit.
pub fn train(
    precision: &str,
    accelerator: Accelerator,
    scaling: Option<ScalerConfig>,
) -> trainer::Result<Trained> {
    let file = include_bytes!("../../data/tiny_gpt.safetensors");
    let tensors = candle_core::safetensors::load_buffer(file, &Device::Cpu)?;
    let weights =
        tensors.iter().filter_map(|(name, t)| Some((name.strip_prefix("w.")?.to_string(), t.clone())));
    let mut builder = Trainer::builder()
        .precision(precision)
        .accelerator(accelerator)
        .max_steps(STEPS)
        .initial_values(weights.collect());
    if let Some(config) = scaling {
        builder = builder.loss_scaling(config);
    }
    let batch = |i: usize| Ok((tensors["x"].get(i % 8)?, tensors["y"].get(i % 8)?));
    let batches = (0..STEPS).map(batch).collect::<candle_core::Result<Vec<_>>>()?;
    let mut scales = Vec::new();
    let fit = builder.build()?.fit_with(&tiny_gpt(), batches, |step| {
        scales.push(f64::from(step.loss_scale()));
        Ok(())
    })?;
    Ok(Trained { losses: fit.losses, scales })
}

/// The largest relative error of the losses; infinite where only one of a pair is finite.
pub fn worst_error(losses: &[f64], recorded: &[Option<f64>]) -> f64 {
    let errors = losses.iter().zip(recorded).map(|(loss, recorded)| match recorded {
        Some(recorded) if loss.is_finite() => (loss - recorded).abs() / recorded,
        None if !loss.is_finite() => 0.,
        _ => f64::INFINITY,
    });
    errors.fold(0., f64::max)
}

/// How far the run lands from where 32-true was recorded to: the relative difference of the means over the last eight
/// losses, one of each batch. Infinite if any loss of the run is not finite.
pub fn landing_error(losses: &[f64], accelerator: Accelerator) -> f64 {
    let mean = |losses: &[f64]| losses[STEPS - 8..].iter().sum::<f64>() / 8.;
    let wanted: Vec<f64> = recorded(accelerator, "32-true").loss.into_iter().flatten().collect();
    match losses.iter().all(|loss| loss.is_finite()) {
        true => (mean(losses) / mean(&wanted) - 1.).abs(),
        false => f64::INFINITY,
    }
}

fn tiny_gpt() -> NextToken {
    let (head, initial) = (Head::Own, Initial::Candle);
    let size = GptConfig { vocabulary: 96, context: 32, width: 64, heads: 4, layers: 2, head, initial };
    NextToken { size, adamw: AdamWConfig { lr: 1e-3, betas: (0.9, 0.95), eps: 1e-8, weight_decay: 0.1 } }
}
