//! A model of candle-nn's layers, as it is and ported.
//!
//! As it is, it trains at every `-true` precision, and at a mixed one nothing in it follows, which the trainer tells, unless it is
//! given its parameters in 16 bits (`parameters_in_compute_dtype`). Ported, it trains at all: the layers by their `use` line, the
//! operators between them by their functions of `ops`.
//!
//! `cargo run --example 06_port_from_candle_nn` (`--short` takes fewer steps)

mod candle_gpt;

use candle_gpt::{CandleGpt, sequences};
use trainer::autocast::{nn, ops};
use trainer::candle_core::{self, Device, Module, Tensor};
use trainer::candle_nn::{self, VarBuilder};
use trainer::optim::{AdamW, AdamWConfig};
use trainer::{Optimization, Parameters, StepContext, StepOutput, Trainer, TrainerBuilder, TrainingModule};

/// A residual block as candle-nn's users write it. (With a `candle_nn::LayerNorm` in it the fit ends at the first step, with an
/// error that names the norm's weights: its kernel gives them no gradient. That of `nn` does.)
struct CandleBlock {
    up: candle_nn::Linear,
    down: candle_nn::Linear,
}

impl CandleBlock {
    fn new(width: usize, vb: VarBuilder) -> candle_core::Result<Self> {
        Ok(Self {
            up: candle_nn::linear(width, 4 * width, vb.pp("up"))?,
            down: candle_nn::linear(4 * width, 1, vb.pp("down"))?,
        })
    }
}

impl Module for CandleBlock {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let hidden = self.up.forward(x)?.relu()?;
        x.broadcast_add(&self.down.forward(&hidden)?)
    }
}

/// The same block, ported: `nn` for `candle_nn`, `ops::relu` and `ops::add` for candle's operators.
struct Block {
    up: nn::Linear,
    down: nn::Linear,
}

impl Block {
    fn new(width: usize, vb: VarBuilder) -> candle_core::Result<Self> {
        Ok(Self {
            up: nn::linear(width, 4 * width, vb.pp("up"))?,
            down: nn::linear(4 * width, 1, vb.pp("down"))?,
        })
    }
}

impl Module for Block {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let hidden = ops::relu(&self.up.forward(x)?)?;
        Ok(ops::add(x, &self.down.forward(&hidden)?)?)
    }
}

/// Trains either of them: a block, and how it is made.
struct Regression<M>(fn(usize, VarBuilder) -> candle_core::Result<M>);

impl<M: Module> TrainingModule for Regression<M> {
    type Model = M;
    type Batch = (Tensor, Tensor);

    fn build(&self, vb: VarBuilder) -> trainer::Result<M> {
        Ok((self.0)(8, vb)?)
    }

    fn training_step(&self, model: &M, (x, y): &Self::Batch, _: &StepContext) -> trainer::Result<StepOutput> {
        Ok(ops::mse_loss(&model.forward(x)?, y, ops::Reduction::Mean)?.into())
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        let config = AdamWConfig { lr: 3e-3, ..Default::default() };
        Ok(Optimization::new(AdamW::new(parameters.to_named(), config)?))
    }
}

/// A model of candle-transformers' kind, as it is.
struct LanguageModel;

impl TrainingModule for LanguageModel {
    type Model = CandleGpt;
    type Batch = (Tensor, Tensor);

    fn build(&self, vb: VarBuilder) -> trainer::Result<CandleGpt> {
        Ok(CandleGpt::new(vb)?)
    }

    fn training_step(
        &self,
        gpt: &CandleGpt,
        (tokens, next): &Self::Batch,
        _: &StepContext,
    ) -> trainer::Result<StepOutput> {
        Ok(gpt.loss(tokens, next)?.into())
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        let config = AdamWConfig { lr: 3e-3, ..Default::default() };
        Ok(Optimization::new(AdamW::new(parameters.to_named(), config)?))
    }
}

fn train<M>(name: &str, builder: TrainerBuilder, module: &M, batch: M::Batch) -> trainer::Result<()>
where
    M: TrainingModule,
    M::Batch: Clone,
{
    let trainer = builder.accelerator("cpu").on_notice(|_| ()).build()?;
    let fit = trainer.fit(module, std::iter::repeat(batch))?;
    let (first, last) = (fit.losses[0], fit.losses[fit.losses.len() - 1]);
    println!("{name:<17} {:<11} loss {first:.4} -> {last:.4}", trainer.precision_name());
    fit.notices.iter().for_each(|notice| println!("          told: {notice}"));
    Ok(())
}

fn main() -> trainer::Result<()> {
    let short = std::env::args().any(|argument| argument == "--short");
    let builder = |precision| Trainer::builder().precision(precision).max_steps(if short { 20 } else { 300 });
    let x: Vec<f32> = (0..64 * 8).map(|index| 2. * (index as f32 * 0.7).sin()).collect();
    let x = Tensor::from_vec(x, (64, 8), &Device::Cpu)?;
    let batch = (x.clone(), (x.sin()? * 2.)?);
    for precision in ["32-true", "bf16-true", "bf16-mixed"] {
        train("candle-nn", builder(precision), &Regression(CandleBlock::new), batch.clone())?;
    }
    for precision in ["32-true", "bf16-true", "bf16-mixed"] {
        train("ported", builder(precision), &Regression(Block::new), batch.clone())?;
    }
    // As it is at a mixed precision: parameters in bf16, and their f32 masters in the optimizer.
    let batch = sequences(8, 0)?;
    train("candle-nn GPT", builder("32-true"), &LanguageModel, batch.clone())?;
    let asked = builder("bf16-mixed").parameters_in_compute_dtype();
    train("the same, asked", asked, &LanguageModel, batch)
}
