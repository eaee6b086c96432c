//! Training through the public `Trainer`, each step timed from an idle device to an idle device.

use optim::WriteBack;
use trainer::{Notice, Precision, Trainer};

use super::Options;
use super::clock::Clock;
use super::line::{Line, round};
use super::memory::PeakMemory;
use super::workload::{Kind, Learner, Workload};
use crate::report::Outcome;

/// Trains `workload` at `precision`.
pub(crate) fn train(workload: Workload, precision: Precision, options: &Options) -> Outcome<Line> {
    let accelerator = options.accelerator.unwrap_or(workload.accelerator());
    let warm_up = Workload::warm_up(accelerator);
    let steps = options.steps.unwrap_or(Workload::steps(accelerator));
    if steps <= warm_up {
        return Err(format!("{steps} steps, of which the first {warm_up} are not timed: take more").into());
    }
    let batch_size = options.bs.unwrap_or(workload.batch_size(accelerator));
    if batch_size == 0 {
        return Err("a batch of 0 samples: take at least one".into());
    }
    let kind = match options.side {
        Some(side) => workload.kind().of_side(side)?,
        None => workload.kind(),
    };
    candle_core::cuda::set_gemm_reduced_precision_f32(options.tf32);
    let builder = options.trainer(precision, accelerator).max_steps(steps).seed(0);
    let trainer = builder.on_notice(|_| ()).build()?;
    let (tf32, stochastic) = (options.tf32.then_some(true), options.stochastic.then_some(true));
    let line = Line { tf32, stochastic, side: options.side, ..options.line(workload, precision, batch_size) };
    let write_back = match options.stochastic {
        true => WriteBack::StochasticRounding { seed: 0 },
        false => WriteBack::default(),
    };
    measure(kind, &Learner::new(kind).writing_back(write_back), &trainer, warm_up, line)
}

/// Trains the learner, of that kind, for all of the trainer's steps, and completes the line.
fn measure(kind: Kind, learner: &Learner, trainer: &Trainer, warm_up: usize, line: Line) -> Outcome<Line> {
    let device = trainer.device();
    // In the precision's dtype, so that no step pays for that.
    let batches = trainer.prepare(kind.batches(line.bs, device)?)?;
    let memory = PeakMemory::start(device)?;
    let mut clock = Clock::start(device)?;
    let fit = trainer.fit_with(learner, batches.iter().cycle().cloned(), |step| {
        if line.graph.is_some() && step.number() == warm_up {
            memory.forget()?;
        }
        Ok(clock.lap()?)
    })?;
    let is_eager = |notice: &&Notice| {
        matches!(notice, Notice::NotRecorded { .. } | Notice::NoEffect { setting: "cuda_graph", .. })
    };
    if let Some(notice) = fit.notices.iter().find(is_eager) {
        return Err(notice.to_string().into());
    }
    let losses = [0, 1, 9, fit.losses.len() - 1];
    let losses = losses.iter().filter_map(|&step| fit.losses.get(step));
    let line = Line {
        peak_mib: memory.peak_mib(),
        loss: losses.map(|&loss| round(loss, 4)).collect(),
        skipped: Some(fit.skipped_steps),
        ..line
    };
    let units = line.bs * kind.units();
    Ok(line.timed(clock.after(warm_up), units))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::GptConfig;

    /// GPT-2's layers, head and initial values at a size for a test.
    const SMALL: GptConfig =
        GptConfig { vocabulary: 96, context: 16, width: 32, heads: 2, layers: 2, ..GptConfig::GPT2 };

    fn small(precision: &str) -> Line {
        let builder = Trainer::builder().precision(precision).accelerator("cpu").max_steps(3);
        let line = Line { bs: 2, ..Line::default() };
        let kind = Kind::Gpt(SMALL);
        measure(kind, &Learner::new(kind), &builder.build().unwrap(), 1, line).unwrap()
    }

    #[test]
    fn a_gpt_that_knows_nothing_finds_every_token_as_likely() {
        for precision in ["32-true", "bf16-mixed", "bf16-true", "16-true", "64-true"] {
            let line = small(precision);
            // Logits of a deviation below 0.2 move the loss by less than half of its square.
            assert!((line.loss[0] - 96f64.ln()).abs() < 0.1, "{precision}: {line:?}");
            assert_eq!((line.loss.len(), line.skipped), (3, Some(0)), "{precision}");
            assert!(line.ms.is_some_and(|ms| ms > 0.) && line.min_ms <= line.ms, "{line:?}");
        }
    }

    #[test]
    fn a_run_that_would_not_be_timed_is_an_error() {
        let options = Options { steps: Some(5), ..Options::default() };
        let error = train(Workload::GptMini, Precision::F32True, &options).unwrap_err().to_string();
        assert!(error.contains("take more"), "{error}");
    }

    #[test]
    fn a_side_that_no_image_has_is_an_error() {
        for (workload, side) in [(Workload::MlpMini, 64), (Workload::ResNet18, 16)] {
            let options = Options { side: Some(side), ..Options::default() };
            let error = train(workload, Precision::F32True, &options).unwrap_err().to_string();
            assert!(error.contains("side"), "{error}");
        }
    }

    #[test]
    fn no_batch_is_an_error() {
        let options = Options { bs: Some(0), ..Options::default() };
        let error = train(Workload::GptMini, Precision::F32True, &options).unwrap_err().to_string();
        assert!(error.contains("batch"), "{error}");
    }
}
