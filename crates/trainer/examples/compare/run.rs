//! One training run: `Trainer::measure` measures it, and what it learnt is tried on what it has not seen.

use candle_core::{D, DType};
use optim::AdamWConfig;
use trainer::Trainer;

use crate::gpt::{Gpt, GptConfig, LanguageModel};
use crate::memory::PeakMemory;
use crate::options::Size;
use crate::progress::Progress;
use crate::results::Run;
use crate::task::{Example, IGNORE, Task};

/// The model that every run trains.
pub(crate) fn model(task: &Task, Size { layers, width, .. }: Size) -> GptConfig {
    // Heads of 64 where there is room for several.
    let heads = (width / 64).max(4);
    GptConfig { vocabulary: task.vocabulary(), context: task.context(), width, heads, layers }
}

/// Trains one model with `trainer` and evaluates it.
pub(crate) fn run(
    trainer: &Trainer,
    task: &Task,
    model: GptConfig,
    progress: &Progress,
) -> trainer::Result<Run> {
    // Wider layers take smaller steps, in proportion.
    let lr = 4e-3 * 64. / model.width as f64;
    let adamw = AdamWConfig { lr, betas: (0.9, 0.95), weight_decay: 0.01, ..Default::default() };
    let learner = LanguageModel { size: model, adamw, schedule: None };
    let batches = task.training_batches(trainer.max_steps().unwrap_or(0))?;
    let memory = PeakMemory::start(trainer.device())?;
    let (fit, measured) = trainer.measure(&learner, batches, |step| {
        if progress.wants(step.number()) || step.is_last() {
            progress.update(step.number(), step.loss()?);
        }
        Ok(())
    })?;
    let peak_bytes = memory.peak_bytes()?;

    let held_out = task.held_out_batches()?;
    let heldout = trainer.validate(&learner, &fit.model, &held_out)?;
    let exact_match = task.has_answers().then(|| exact_match(trainer, &fit.model, held_out)).transpose()?;
    Ok(Run {
        precision: trainer.precision(),
        tokens_per_s: 1e3 * task.tokens_per_step() as f64 / measured.ms_per_step,
        peak_bytes,
        heldout_loss: heldout.get("val_loss").unwrap_or(f64::NAN),
        exact_match,
        measured,
        losses: fit.losses,
    })
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
