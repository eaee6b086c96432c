//! A model with everything that has a state: dropout, running statistics, moments, a schedule, masters.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::{Path, PathBuf};

use autocast::{nn, ops};
use candle_core::{DType, Device, Module, Tensor};
use candle_nn::VarBuilder;
use grad_scaler::ScalerConfig;
use optim::{AdamW, AdamWConfig, Schedule};
use trainer::{
    Fit, Optimization, Parameters, StepContext, StepOutput, Trainer, TrainerBuilder, TrainingModule,
};

/// What a CPU trains at.
pub(crate) const CPU_PRECISIONS: [&str; 5] = ["32-true", "bf16-mixed", "bf16-true", "16-true", "64-true"];

pub(crate) type Pair = (Tensor, Tensor);

/// Layers of [`Net`].
pub(crate) struct Layers {
    first: nn::Linear,
    norm: nn::BatchNorm,
    dropout: nn::Dropout,
    last: nn::Linear,
}

/// A net that is trained by AdamW under a schedule.
pub(crate) struct Net;

impl TrainingModule for Net {
    type Model = Layers;
    type Batch = Pair;

    fn build(&self, vb: VarBuilder) -> trainer::Result<Layers> {
        Ok(Layers {
            first: nn::linear(2, 8, vb.pp("first"))?,
            norm: nn::batch_norm(8, 1e-5, vb.pp("norm"))?,
            dropout: nn::Dropout::new(0.3),
            last: nn::linear(8, 1, vb.pp("last"))?,
        })
    }

    fn training_step(&self, net: &Layers, (x, y): &Pair, _: &StepContext) -> trainer::Result<StepOutput> {
        let hidden = net.norm.forward_by_mode(&net.first.forward(x)?)?;
        let output = net.last.forward(&net.dropout.forward_by_mode(&hidden)?)?;
        let loss = ops::mse_loss(&output, y, ops::Reduction::Mean)?;
        let mean = ops::mean_all(&output)?;
        Ok(StepOutput::new(loss).with_metric("mean", mean))
    }

    fn predict_step(&self, net: &Layers, (x, _): &Pair) -> trainer::Result<Tensor> {
        Ok(net.last.forward(&net.norm.forward_by_mode(&net.first.forward(x)?)?)?)
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        let config = AdamWConfig { lr: 1e-2, ..Default::default() };
        let schedule = Schedule::cosine(1e-2, 400)?.with_warmup(5);
        Ok(Optimization::new(AdamW::new(parameters.to_named(), config)?).with_schedule(schedule))
    }
}

/// Batches of four samples, no two alike.
pub(crate) fn batches(count: usize) -> Vec<Pair> {
    let number = |at: usize| ((at * 7919 + 13) % 2001) as f32 / 1e3 - 1.;
    let batch = |nth: usize| {
        let x: Vec<f32> = (0..8).map(|at| number(8 * nth + at)).collect();
        let x = Tensor::from_vec(x, (4, 2), &Device::Cpu).unwrap();
        let y = x.sum_keepdim(1).unwrap();
        (x, y)
    };
    (0..count).map(batch).collect()
}

/// A trainer on a CPU that tells nothing and leaves signals alone.
pub(crate) fn builder(precision: &str) -> TrainerBuilder {
    Trainer::builder().precision(precision).accelerator("cpu").seed(7).on_notice(|_| ())
}

/// The same with a loss scale at which nothing overflows that is finite without it.
pub(crate) fn modest(precision: &str) -> TrainerBuilder {
    let scaling = ScalerConfig { init_scale: 128., is_static: true, ..ScalerConfig::recommended() };
    builder(precision).loss_scaling(scaling)
}

/// Losses and parameters, to the bit.
pub(crate) fn bits<M>(fit: &Fit<M>) -> (Vec<u64>, Vec<u64>) {
    (fit.losses.iter().map(|loss| loss.to_bits()).collect(), parameter_bits(&fit.parameters))
}

/// Parameters and buffers, to the bit.
pub(crate) fn parameter_bits(parameters: &Parameters) -> Vec<u64> {
    parameters.iter().flat_map(|(_, var)| numbers(var)).map(f64::to_bits).collect()
}

/// The numbers of `tensor` as f64.
pub(crate) fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// An empty folder of the test's own.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
