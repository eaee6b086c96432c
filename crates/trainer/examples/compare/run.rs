//! One training run, measured.

use std::time::Instant;

use candle_core::{D, DType};
use candle_nn::VarBuilder;
use optim::{AdamW, AdamWConfig};
use trainer::{Optimization, Parameters, StepContext, StepOutput, Trainer, TrainingModule};

use crate::gpt::{Gpt, GptConfig};
use crate::memory::PeakMemory;
use crate::progress::Progress;
use crate::results::Run;
use crate::task::{Example, IGNORE, Task};

/// The loss is read from the device, and the clock with it, every so many steps: in between no step waits for it.
pub(crate) const STEPS_PER_READING: usize = 10;

/// The model that every run trains.
pub(crate) fn model(task: &Task) -> GptConfig {
    GptConfig { vocabulary: task.vocabulary(), context: task.context(), width: 64, heads: 4, layers: 2 }
}

/// Trains one model with `trainer` and evaluates it.
pub(crate) fn run(trainer: &Trainer, task: &Task, progress: &Progress) -> trainer::Result<Run> {
    let learner = Learner { config: model(task) };
    let batches = task.training_batches(trainer.max_steps().unwrap_or(0))?;
    let memory = PeakMemory::start(trainer.device());
    let mut clock = Clock::start();
    let fit = trainer.fit_with(&learner, batches, |step| {
        memory.sample();
        if step.number().is_multiple_of(STEPS_PER_READING) || step.is_last() {
            let loss = step.loss()?;
            clock.reading(step.number());
            progress.update(step.number(), loss);
        }
        Ok(())
    })?;
    let peak_bytes = memory.peak_bytes();

    let held_out = task.held_out_batches()?;
    let heldout = trainer.validate(&learner, &fit.model, &held_out)?;
    let exact_match = task.has_answers().then(|| exact_match(trainer, &fit.model, held_out)).transpose()?;
    let ms_per_step = clock.median_ms_per_step();
    Ok(Run {
        precision: trainer.precision().to_string(),
        ms_per_step,
        tokens_per_s: 1e3 * task.tokens_per_step() as f64 / ms_per_step,
        peak_bytes,
        first_loss: fit.losses.first().copied().unwrap_or(f64::NAN),
        last_loss: mean_of_last(&fit.losses),
        heldout_loss: heldout.get("val_loss").unwrap_or(f64::NAN),
        exact_match,
        skipped_steps: fit.skipped_steps,
        losses: fit.losses,
    })
}

/// The mean of the last twentieth of the losses, since one batch's loss is noisy.
fn mean_of_last(losses: &[f64]) -> f64 {
    let last = &losses[losses.len() - losses.len().div_ceil(20)..];
    last.iter().sum::<f64>() / last.len() as f64
}

/// Times between readings of the loss.
struct Clock {
    last: (usize, Instant),
    ms_per_step: Vec<f64>,
}

impl Clock {
    fn start() -> Self {
        Self { last: (0, Instant::now()), ms_per_step: Vec::new() }
    }

    fn reading(&mut self, step: usize) {
        let (last_step, last_time) = std::mem::replace(&mut self.last, (step, Instant::now()));
        self.ms_per_step.push(1e3 * last_time.elapsed().as_secs_f64() / (step - last_step) as f64);
    }

    /// The median over the readings; the first one, which pays for creating the model, counts only if it is alone.
    fn median_ms_per_step(&self) -> f64 {
        let skip = usize::from(self.ms_per_step.len() > 1);
        let mut times = self.ms_per_step[skip..].to_vec();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// The share of rows in which every target is the likeliest token.
///
/// Judging each digit after the right digits before it counts a row exactly when writing it out would get it
/// right: up to the first mistake, both read the same.
fn exact_match(trainer: &Trainer, net: &Gpt, batches: Vec<Example>) -> trainer::Result<f64> {
    let (mut right, mut rows) = (0., 0);
    for batch in batches {
        let (inputs, targets) = trainer.prepare(batch)?;
        let guesses = trainer.infer(|| Ok(net.forward(&inputs)?))?.argmax(D::Minus1)?.to_dtype(DType::I64)?;
        let fine = (guesses.eq(&targets)? + targets.eq(IGNORE)?)?;
        right += fine.min(1)?.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()? as f64;
        rows += targets.dim(0)?;
    }
    Ok(right / rows as f64)
}

/// The GPT's size and how it is trained.
struct Learner {
    config: GptConfig,
}

impl TrainingModule for Learner {
    type Model = Gpt;
    type Batch = Example;

    fn build(&self, vb: VarBuilder) -> trainer::Result<Gpt> {
        Ok(Gpt::new(self.config, vb)?)
    }

    fn training_step(
        &self,
        net: &Gpt,
        (inputs, targets): &Example,
        _: &StepContext,
    ) -> trainer::Result<StepOutput> {
        let logits = net.forward(inputs)?;
        let options = autocast::ops::CrossEntropy { ignore_index: IGNORE, ..Default::default() };
        let loss = autocast::ops::cross_entropy(&logits.flatten_to(1)?, &targets.flatten_all()?, &options)?;
        Ok(loss.into())
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        let config = AdamWConfig { lr: 4e-3, betas: (0.9, 0.95), weight_decay: 0.01, ..Default::default() };
        Ok(Optimization::new(AdamW::new(parameters.to_named(), config)?))
    }
}
