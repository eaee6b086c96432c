//! Inference: a forward pass over whole rows of tokens, of which the last position's likeliest token is kept.

use candle_core::{D, Tensor};
use trainer::{Precision, Trainer};

use super::Options;
use super::clock::Clock;
use super::line::Line;
use super::memory::PeakMemory;
use super::workload::{Kind, Workload};
use crate::models::{Gpt, GptConfig, Head, Initial};
use crate::report::Outcome;

const STEPS: usize = 20;

/// Uses the model of `workload`, untrained and with a head of its own, at `precision`.
pub(crate) fn infer(workload: Workload, precision: Precision, options: &Options) -> Outcome<Line> {
    let Kind::Gpt(config) = workload.kind() else {
        return Err(format!("{} has no tokens to infer: take gpt2 or gpt_mini", workload.name()).into());
    };
    let steps = options.steps.unwrap_or(STEPS);
    let batch_size = options.bs.unwrap_or(workload.batch_size());
    if steps == 0 || batch_size == 0 {
        return Err(format!("{steps} steps of a batch of {batch_size}: take at least one of both").into());
    }
    let accelerator = options.accelerator.unwrap_or(workload.accelerator());
    let trainer = Trainer::builder().precision(precision).accelerator(accelerator).build()?;
    let config = GptConfig { head: Head::Own, initial: Initial::Torch, ..config };
    let line =
        Line { w: workload.name().into(), p: precision.to_string(), bs: batch_size, ..Line::default() };
    measure(config, &trainer, steps, line)
}

fn measure(config: GptConfig, trainer: &Trainer, steps: usize, line: Line) -> Outcome<Line> {
    let device = trainer.device();
    let batches = Kind::Gpt(config).batches(line.bs, device)?;
    let memory = PeakMemory::start(device)?;
    let (gpt, _) = trainer.init_module(|vb| Ok(Gpt::new(config, vb)?))?;
    let next = |tokens: &Tensor| -> trainer::Result<Tensor> {
        trainer.infer(|| {
            let logits = gpt.forward(tokens)?;
            Ok(logits.narrow(1, config.context - 1, 1)?.argmax(D::Minus1)?)
        })
    };
    let warm_up = steps / 3;
    let mut clock = Clock::start(device)?;
    for (tokens, _) in batches.iter().cycle().take(steps) {
        next(tokens)?;
        clock.lap()?;
    }
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
