//! Inference: a forward pass over whole rows of tokens, of which the last position's likeliest token is kept.

use trainer::{Precision, Trainer, TrainingModule};

use super::Options;
use super::clock::Clock;
use super::line::Line;
use super::memory::PeakMemory;
use super::workload::{Kind, Learner, Workload};
use crate::models::{GptConfig, Head, Initial};
use crate::report::Outcome;

const STEPS: usize = 20;

/// Uses the model of `workload`, untrained and with a head of its own, at `precision`.
pub(crate) fn infer(workload: Workload, precision: Precision, options: &Options) -> Outcome<Line> {
    let Kind::Gpt(config) = workload.kind() else {
        return Err(format!("{} has no tokens to infer: take gpt2 or gpt_mini", workload.name()).into());
    };
    let steps = options.steps.unwrap_or(STEPS);
    let accelerator = options.accelerator.unwrap_or(workload.accelerator());
    let batch_size = options.bs.unwrap_or(workload.batch_size(accelerator));
    if steps == 0 || batch_size == 0 {
        return Err(format!("{steps} steps of a batch of {batch_size}: take at least one of both").into());
    }
    let trainer = options.trainer(precision, accelerator).build()?;
    let config = GptConfig { head: Head::Own, initial: Initial::Torch, ..config };
    let line = options.line(workload, precision, batch_size);
    measure(config, &trainer, steps, line)
}

fn measure(config: GptConfig, trainer: &Trainer, steps: usize, line: Line) -> Outcome<Line> {
    let device = trainer.device();
    let batches = Kind::Gpt(config).batches(line.bs, device)?;
    let memory = PeakMemory::start(device)?;
    let learner = Learner::new(Kind::Gpt(config));
    let (net, _) = trainer.init_module(|vb| learner.build(vb))?;
    let mut clock = Clock::start(device)?;
    let warm_up = 1 + steps / 3;
    let mut failed = None;
    // A batch is asked for when the one before is done, and so ends its lap: the first lap is of none.
    let mut begun = 0;
    let timed = batches.iter().cycle().take(steps).cloned().inspect(|_| {
        failed = failed.take().or(clock.lap().err());
        if begun == warm_up {
            failed = failed.take().or(memory.forget().err().map(Into::into));
        }
        begun += 1;
    });
    trainer.predict(&learner, &net, timed)?;
    failed.map_or(Ok(()), Err)?;
    clock.lap()?;
    let units = line.bs * config.context;
    Ok(Line { peak_mib: memory.peak_mib(), ..line }.timed(clock.after(warm_up), units))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_model_is_used_at_every_precision_of_a_cpu() {
        let config =
            GptConfig { vocabulary: 32, context: 8, width: 16, heads: 2, layers: 1, ..GptConfig::MINI };
        for precision in ["32-true", "bf16-mixed", "bf16-true", "16-true", "64-true"] {
            let trainer = Trainer::builder().precision(precision).accelerator("cpu").build().unwrap();
            let line = measure(config, &trainer, 3, Line { bs: 2, ..Line::default() }).unwrap();
            assert!(line.per_s.is_some_and(|rate| rate > 0), "{precision}: {line:?}");
        }
    }

    #[test]
    fn a_model_without_tokens_is_refused() {
        let error = infer(Workload::MlpMini, Precision::F32True, &Options::default()).unwrap_err();
        assert!(error.to_string().contains("gpt_mini"), "{error}");
    }
}
