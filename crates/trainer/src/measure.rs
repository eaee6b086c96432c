//! A fit that is measured: its steps' time, what it keeps in memory, and its losses.

use std::time::Instant;

use candle_core::Tensor;
use serde::Serialize;

use crate::{Fit, IntoData, Result, Step, Trainer, TrainingModule};

/// The first steps, which pay for what is made once and are not timed.
const WARM_UP: usize = 2;

/// Times that a loss is read in a measured fit, about, and the most steps from one to the next.
const READINGS: usize = 40;
const MOST_APART: usize = 10;

/// A fit at one precision.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Measured {
    /// The median time of a step, in milliseconds.
    pub ms_per_step: f64,
    /// Bytes of parameters, gradients and the optimizers' state. Activations, which depend on the batch, come on top.
    pub state_bytes: usize,
    /// The steps that were taken or skipped.
    pub steps: usize,
    /// The loss before the first step.
    pub first_loss: f64,
    /// The mean loss of the last twentieth of the steps: of a few steps, that of the last.
    pub last_loss: f64,
    /// Steps that were skipped; a loss scale that is being found skips some.
    pub skipped_steps: usize,
    /// Whether every loss was a number, and in a [`Recommendation`](crate::Recommendation), whether fewer than half of the steps were skipped and the last
    /// loss is no more above 32-true's than a tenth, of that or of what 32-true has learnt until then.
    pub is_safe: bool,
}

impl Trainer {
    /// Trains as [`fit_with`](Self::fit_with) does, and measures what that takes. Reads the loss of some steps, and so waits for
    /// the device: of every step where there are few, and of every tenth where there are hundreds.
    ///
    /// ```
    /// # fn main() -> trainer::Result<()> {
    /// # use trainer::doc_example::{Line, batches};
    /// use trainer::{Accelerator, Recommendation, Trainer};
    ///
    /// let mut rows = Vec::new();
    /// for precision in ["32-true", "bf16-true"] {
    ///     let trainer = Trainer::builder().precision(precision).accelerator("cpu").max_steps(8).build()?;
    ///     let (fit, measured) = trainer.measure(&Line, batches(8)?, |_| Ok(()))?;
    ///     assert_eq!(fit.losses[0], measured.first_loss);
    ///     rows.push((trainer.precision(), Ok(measured)));
    /// }
    /// println!("{}", Recommendation::new(Accelerator::Cpu, rows));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`fit_with`](Self::fit_with).
    pub fn measure<M: TrainingModule, Kind>(
        &self,
        module: &M,
        data: impl IntoData<M::Batch, Kind>,
        mut on_step: impl FnMut(&Step<'_>) -> Result<()>,
    ) -> Result<(Fit<M::Model>, Measured)> {
        let every = self.max_steps().map_or(MOST_APART, |steps| (steps / READINGS).clamp(1, MOST_APART));
        let mut readings = Readings::default();
        let fit = self.fit_with(module, data, |step| {
            if step.number().is_multiple_of(every) || step.is_last() {
                // Reading it waits for the device.
                step.loss()?;
                readings.push(step.number());
            }
            on_step(step)
        })?;
        let measured = Measured {
            ms_per_step: readings.median_ms_per_step(),
            state_bytes: state_bytes(&fit)?,
            steps: fit.losses.len(),
            first_loss: fit.losses.first().copied().unwrap_or(f64::NAN),
            last_loss: mean_of_last(&fit.losses),
            skipped_steps: fit.skipped_steps,
            is_safe: fit.losses.iter().all(|loss| loss.is_finite()),
        };
        Ok((fit, measured))
    }
}

/// When losses were read.
struct Readings {
    /// The step and the time of the last.
    last: (usize, Instant),
    /// The steps before each reading, and the time of one of its own.
    ms_per_step: Vec<(usize, f64)>,
}

impl Default for Readings {
    fn default() -> Self {
        Self { last: (0, Instant::now()), ms_per_step: Vec::new() }
    }
}

impl Readings {
    fn push(&mut self, step: usize) {
        let (before, then) = std::mem::replace(&mut self.last, (step, Instant::now()));
        let seconds = self.last.1.duration_since(then).as_secs_f64();
        self.ms_per_step.push((before, 1e3 * seconds / (step - before).max(1) as f64));
    }

    /// Without the first steps, unless there are no others.
    fn median_ms_per_step(&self) -> f64 {
        let warm = self.ms_per_step.partition_point(|&(before, _)| before < WARM_UP);
        let timed = &self.ms_per_step[if warm < self.ms_per_step.len() { warm } else { 0 }..];
        let mut times: Vec<f64> = timed.iter().map(|&(_, ms)| ms).collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// The mean of the last twentieth of the losses, since one batch's loss is noisy.
fn mean_of_last(losses: &[f64]) -> f64 {
    let last = &losses[losses.len() - losses.len().div_ceil(20)..];
    last.iter().sum::<f64>() / last.len() as f64
}

/// Gradients are as large as the parameters that have them.
fn state_bytes<Model>(fit: &Fit<Model>) -> Result<usize> {
    let size = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
    let parameters: usize = fit.parameters.iter().map(|(_, var)| size(var)).sum();
    let mut others = 0;
    for stepping in &fit.progress.update.optimizers {
        let trained = stepping.optimizer.parameters().iter();
        others += trained.map(|parameter| size(&parameter.var)).sum::<usize>();
        others += stepping.optimizer.state_dict()?.values().map(size).sum::<usize>();
    }
    Ok(parameters + others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_steps_are_timed_only_where_there_are_no_others() {
        let readings = |of: &[(usize, f64)]| Readings { ms_per_step: of.to_vec(), ..Default::default() };
        assert_eq!(readings(&[(0, 90.), (1, 80.), (2, 3.), (3, 1.), (4, 2.)]).median_ms_per_step(), 2.);
        assert_eq!(readings(&[(0, 90.), (10, 7.)]).median_ms_per_step(), 7.);
        assert_eq!(readings(&[(0, 90.)]).median_ms_per_step(), 90.);
        assert!(readings(&[]).median_ms_per_step().is_nan());
    }
}
