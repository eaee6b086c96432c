//! What is trained with and without recordings.

use std::cell::{Cell, RefCell};

use autocast::{nn, ops};
use candle_core::{DType, Device, Module, Tensor};
use candle_nn::VarBuilder;
use trainer::{Optimization, Parameters, StepContext, StepOutput, TrainingModule};

use crate::models::closures::{Closures, Pair, module};

/// A module, and how often its `training_step` is called.
pub(super) struct Counted<'a, M> {
    pub(super) module: &'a M,
    pub(super) calls: Cell<usize>,
}

impl<M: TrainingModule> TrainingModule for Counted<'_, M> {
    type Model = M::Model;
    type Batch = M::Batch;

    fn build(&self, vb: VarBuilder) -> trainer::Result<M::Model> {
        self.module.build(vb)
    }

    fn training_step(
        &self,
        model: &M::Model,
        batch: &M::Batch,
        at: &StepContext,
    ) -> trainer::Result<StepOutput> {
        self.calls.set(self.calls.get() + 1);
        self.module.training_step(model, batch, at)
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        self.module.configure_optimizers(parameters)
    }
}

pub(super) type Net = (nn::Linear, nn::BatchNorm, nn::Dropout, nn::Linear);

/// A layer of everything that draws or keeps statistics.
pub(super) fn net() -> Closures<Net> {
    module(
        |vb| {
            let norm = nn::batch_norm(8, 1e-5, vb.pp("bn"))?;
            Ok((nn::linear(2, 8, vb.pp("a"))?, norm, nn::Dropout::new(0.3), nn::linear(8, 1, vb.pp("b"))?))
        },
        |(first, norm, dropout, last), (x, y)| {
            let x = dropout.forward_by_mode(&norm.forward_by_mode(&first.forward(x)?)?)?;
            Ok(ops::mse_loss(&last.forward(&x)?, y, ops::Reduction::Mean)?)
        },
    )
}

/// Masks are drawn in the kernel of attention.
pub(super) fn attends_with_dropout() -> Closures<(nn::Linear, nn::MultiHeadAttention, nn::Linear)> {
    module(
        |vb| {
            let dropout = ops::AttentionDropout { p: 0.2, seed: 0.into() };
            let attention =
                ops::AttentionOptions { dropout: Some(dropout), ..ops::AttentionOptions::causal() };
            let config = nn::MultiHeadAttentionConfig { attention, ..Default::default() };
            let attention = nn::multi_head_attention(64, 2, config, vb.pp("attention"))?;
            Ok((nn::linear(2, 64, vb.pp("in"))?, attention, nn::linear(64, 1, vb.pp("out"))?))
        },
        |(first, attention, last), (x, y)| {
            let x = attention.forward(&first.forward(&x.unsqueeze(0)?)?)?;
            Ok(ops::mse_loss(&last.forward(&x)?, &y.unsqueeze(0)?, ops::Reduction::Mean)?)
        },
    )
}

/// A layer, and what a step does with it.
pub(super) struct OneLayer<F>(F);

impl<F> TrainingModule for OneLayer<F>
where
    F: Fn(&nn::Linear, &Pair, &StepContext) -> trainer::Result<StepOutput>,
{
    type Model = nn::Linear;
    type Batch = Pair;

    fn build(&self, vb: VarBuilder) -> trainer::Result<nn::Linear> {
        Ok(nn::linear(2, 1, vb)?)
    }

    fn training_step(&self, net: &nn::Linear, batch: &Pair, at: &StepContext) -> trainer::Result<StepOutput> {
        (self.0)(net, batch, at)
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        net().configure_optimizers(parameters)
    }
}

/// A module of one layer, whose step does this.
pub(super) fn one_layer<F>(step: F) -> OneLayer<F>
where
    F: Fn(&nn::Linear, &Pair, &StepContext) -> trainer::Result<StepOutput>,
{
    OneLayer(step)
}

/// A step with a metric, which is read on the way.
pub(super) fn reports(net: &nn::Linear, (x, y): &Pair, _: &StepContext) -> trainer::Result<StepOutput> {
    let output = net.forward(x)?;
    let largest = output.flatten_all()?.max(0)?;
    let loss = ops::mse_loss(&output, y, ops::Reduction::Mean)?;
    Ok(StepOutput::new(loss).with_metric("largest", largest).with_samples(3))
}

/// A step that reads a number.
pub(super) fn reads(net: &nn::Linear, (x, y): &Pair, _: &StepContext) -> trainer::Result<StepOutput> {
    let loss = ops::mse_loss(&net.forward(x)?, y, ops::Reduction::Mean)?;
    let read = loss.detach().to_dtype(DType::F64)?.to_scalar::<f64>()?;
    Ok(ops::mul_scalar(&loss, if read > 1e3 { 0.5 } else { 1. })?.into())
}

/// A step that waits for the device.
pub(super) fn waits(net: &nn::Linear, (x, y): &Pair, _: &StepContext) -> trainer::Result<StepOutput> {
    let output = net.forward(x)?;
    x.device().synchronize()?;
    Ok(ops::mse_loss(&output, y, ops::Reduction::Mean)?.into())
}

/// A step that frees the last one's output.
pub(super) fn keeps(
    last: RefCell<Option<Tensor>>,
) -> impl Fn(&nn::Linear, &Pair, &StepContext) -> trainer::Result<StepOutput> {
    move |net, (x, y), _| {
        let output = net.forward(x)?;
        last.replace(Some(output.detach()));
        Ok(ops::mse_loss(&output, y, ops::Reduction::Mean)?.into())
    }
}

/// A step that moves a tensor to the device.
pub(super) fn moves(net: &nn::Linear, (x, y): &Pair, at: &StepContext) -> trainer::Result<StepOutput> {
    let shift = Tensor::new(&[at.position.batch as f32], &Device::Cpu)?;
    let output = ops::add(&net.forward(x)?, &autocast::to_device(&shift, x.device())?)?;
    Ok(ops::mse_loss(&output, y, ops::Reduction::Mean)?.into())
}
