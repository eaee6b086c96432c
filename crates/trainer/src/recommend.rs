//! Which precision to train at on this machine: a few steps at every one that it supports, side by side. Measuring is a fit's own
//! work; here are its clock, and what follows from its numbers.

use std::fmt;
use std::time::Instant;

use candle_core::Tensor;
use serde::Serialize;

use crate::progress::number;
use crate::table::{aligned, bytes};
use crate::{
    Accelerator, Fit, IntoAcceleratorChoice, IntoData, Precision, Result, Step, Trainer, TrainingModule,
};

/// Steps at each precision, unless told otherwise.
const STEPS: usize = 12;

/// The first steps, which pay for what is made once and are not timed.
const WARM_UP: usize = 2;

/// Times that a loss is read in a measured fit, about, and the most steps from one to the next.
const READINGS: usize = 40;
const MOST_APART: usize = 10;

/// How far from 32-true's a loss may be, as a share of it, to be called safe.
const CLOSE: f64 = 0.1;

/// What each precision of a machine costs and gives for one module. [`Display`](fmt::Display) prints it as a table.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recommendation {
    /// Where it was measured.
    pub accelerator: Accelerator,
    /// One for each precision that the accelerator supports.
    pub rows: Vec<Row>,
}

/// A precision, and what came of trying it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Row {
    /// The precision.
    pub precision: Precision,
    /// What was measured, or why it does not train.
    pub outcome: std::result::Result<Measured, String>,
}

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
    /// Whether every loss was a number, and in a [`Recommendation`], whether fewer than half of the steps were skipped and the last
    /// loss is within a tenth of 32-true's.
    pub is_safe: bool,
}

impl Trainer {
    /// Trains `module` for a few steps at every precision that this machine's best accelerator supports, from the same weights
    /// and on the same batches, over and over.
    ///
    /// A precision at which the module does not train is a row that says why. Nothing is kept of the training.
    ///
    /// # Errors
    /// No accelerator, which a CPU always is.
    pub fn recommend<M>(module: &M, batches: &[M::Batch]) -> Result<Recommendation>
    where
        M: TrainingModule,
        M::Batch: Clone,
    {
        Self::recommend_on("auto", module, batches, STEPS)
    }

    /// [`recommend`](Self::recommend) on an accelerator, with so many steps at each precision.
    ///
    /// # Errors
    /// An accelerator that is not here.
    pub fn recommend_on<M>(
        accelerator: impl IntoAcceleratorChoice,
        module: &M,
        batches: &[M::Batch],
        steps: usize,
    ) -> Result<Recommendation>
    where
        M: TrainingModule,
        M::Batch: Clone,
    {
        let choice = accelerator.into_accelerator_choice()?;
        let (accelerator, _) = choice.open()?;
        let precisions = Precision::ALL.into_iter().filter(|p| p.supported_on(accelerator).is_ok());
        let precisions: Vec<Precision> = precisions.collect();
        let tried = precisions.iter().map(|&precision| {
            let builder = Self::builder().precision(precision).accelerator(accelerator).max_steps(steps);
            let trainer = builder.on_notice(|_| ()).build()?;
            let (_, measured) = trainer.measure(module, batches.iter().cycle().cloned(), |_| Ok(()))?;
            Ok(measured)
        });
        let outcomes = tried.map(|outcome: Result<Measured>| outcome.map_err(|error| error.to_string()));
        Ok(Recommendation::new(accelerator, precisions.iter().copied().zip(outcomes)))
    }
}

impl Trainer {
    /// Trains as [`fit_with`](Self::fit_with) does, and measures what that takes. Reads the loss of some steps, and so waits for
    /// the device: of every step where there are few, and of every tenth where there are hundreds.
    ///
    /// ```
    /// # fn main() -> trainer::Result<()> {
    /// # use trainer::candle_core::{Device, Module, Tensor};
    /// # use trainer::{Optimization, Parameters, StepContext, StepOutput, TrainingModule, candle_nn, optim};
    /// # struct Line;
    /// # impl TrainingModule for Line {
    /// #     type Model = candle_nn::Linear;
    /// #     type Batch = Tensor;
    /// #     fn build(&self, vb: candle_nn::VarBuilder) -> trainer::Result<candle_nn::Linear> {
    /// #         Ok(candle_nn::linear(1, 1, vb)?)
    /// #     }
    /// #     fn training_step(&self, line: &candle_nn::Linear, x: &Tensor, _: &StepContext) -> trainer::Result<StepOutput> {
    /// #         Ok(line.forward(x)?.sqr()?.mean_all()?.into())
    /// #     }
    /// #     fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
    /// #         Ok(Optimization::new(optim::Sgd::new(parameters.to_named(), optim::SgdConfig::default())?))
    /// #     }
    /// # }
    /// use trainer::{Recommendation, Trainer};
    ///
    /// let x = Tensor::new(&[[1f32], [2.]], &Device::Cpu)?;
    /// let mut rows = Vec::new();
    /// for precision in ["32-true", "bf16-true"] {
    ///     let trainer = Trainer::builder().precision(precision).accelerator("cpu").max_steps(8).build()?;
    ///     let (_, measured) = trainer.measure(&Line, std::iter::repeat(x.clone()), |_| Ok(()))?;
    ///     rows.push((trainer.precision(), Ok(measured)));
    /// }
    /// let standing = Recommendation::new("cpu".parse()?, rows);
    /// println!("{standing}");
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

/// Holds the losses to 32-true's, where there is one.
fn judge(rows: &mut [Row]) {
    let known = rows.iter().find(|row| row.precision == Precision::F32True);
    let Some(wanted) = known.and_then(|row| Some(row.outcome.as_ref().ok()?.last_loss)) else { return };
    for measured in rows.iter_mut().filter_map(|row| row.outcome.as_mut().ok()) {
        let close = (measured.last_loss - wanted).abs() <= CLOSE * wanted.abs();
        measured.is_safe &= close && 2 * measured.skipped_steps < measured.steps;
    }
}

impl Recommendation {
    /// Holds what was [measured](Trainer::measure) at each precision, or why one does not train, to 32-true's row.
    #[must_use]
    pub fn new(
        accelerator: Accelerator,
        rows: impl IntoIterator<Item = (Precision, std::result::Result<Measured, String>)>,
    ) -> Self {
        let mut rows: Vec<Row> =
            rows.into_iter().map(|(precision, outcome)| Row { precision, outcome }).collect();
        judge(&mut rows);
        Self { accelerator, rows }
    }

    /// What is to be said of a precision: `safe`, `fastest`, `smallest`, or why it is none of these.
    #[must_use]
    pub fn verdict(&self, row: &Row) -> String {
        let measured = match &row.outcome {
            Ok(measured) => measured,
            Err(error) => return format!("does not train: {}", error.lines().next().unwrap_or_default()),
        };
        let mut verdict = vec![if measured.is_safe { "safe" } else { "look at the losses" }];
        verdict.extend((Some(row.precision) == self.fastest()).then_some("fastest"));
        verdict.extend((Some(row.precision) == self.smallest()).then_some("smallest"));
        verdict.join(", ")
    }

    /// The rows as cells under [`HEADER`].
    pub(crate) fn cells(&self) -> Vec<Vec<String>> {
        let cells = |row: &Row| {
            let numbers = match &row.outcome {
                Ok(measured) => [
                    format!("{:.2}", measured.ms_per_step),
                    bytes(measured.state_bytes as u64),
                    number(measured.first_loss),
                    number(measured.last_loss),
                    measured.skipped_steps.to_string(),
                ],
                Err(_) => std::array::from_fn(|_| "–".to_string()),
            };
            let name = std::iter::once(row.precision.to_string());
            name.chain(numbers).chain([self.verdict(row)]).collect()
        };
        self.rows.iter().map(cells).collect()
    }

    /// The fastest of the safe precisions: what to train at where memory is enough.
    #[must_use]
    pub fn fastest(&self) -> Option<Precision> {
        self.safe().min_by(|(_, a), (_, b)| a.ms_per_step.total_cmp(&b.ms_per_step)).map(|(p, _)| p)
    }

    /// The smallest of the safe precisions, and of those the fastest.
    #[must_use]
    pub fn smallest(&self) -> Option<Precision> {
        let key = |measured: &Measured| (measured.state_bytes, measured.ms_per_step);
        let less = |a: &Measured, b: &Measured| {
            let ((bytes_a, ms_a), (bytes_b, ms_b)) = (key(a), key(b));
            bytes_a.cmp(&bytes_b).then(ms_a.total_cmp(&ms_b))
        };
        self.safe().min_by(|(_, a), (_, b)| less(a, b)).map(|(p, _)| p)
    }

    fn safe(&self) -> impl Iterator<Item = (Precision, &Measured)> {
        let measured = self.rows.iter().filter_map(|row| Some((row.precision, row.outcome.as_ref().ok()?)));
        measured.filter(|(_, measured)| measured.is_safe)
    }
}

/// The columns of a recommendation's table.
pub(crate) const HEADER: [&str; 7] =
    ["precision", "ms/step", "state", "first loss", "last loss", "skipped", "verdict"];

impl fmt::Display for Recommendation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&aligned(&HEADER, &self.cells()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(last_loss: f64, ms_per_step: f64, skipped_steps: usize) -> Measured {
        let (steps, state_bytes, first_loss) = (10, 1 << 20, 3.);
        Measured { ms_per_step, state_bytes, steps, first_loss, last_loss, skipped_steps, is_safe: true }
    }

    #[test]
    fn losses_are_held_to_those_of_32_true() {
        let rows = [
            (Precision::F32True, Ok(measured(1., 3., 0))),
            (Precision::Bf16Mixed, Ok(measured(1.05, 2., 0))),
            (Precision::Bf16True, Ok(measured(1.2, 1., 0))),
            (Precision::F16True, Ok(measured(1., 1., 5))),
            (Precision::F64True, Err("no\nmore".to_string())),
        ];
        let all = Recommendation::new(Accelerator::Cpu, rows);
        let verdicts: Vec<String> = all.rows.iter().map(|row| all.verdict(row)).collect();
        let look = "look at the losses";
        assert_eq!(verdicts, ["safe", "safe, fastest, smallest", look, look, "does not train: no"]);
        let table = all.to_string();
        assert!(table.lines().any(|line| line.starts_with("bf16-mixed     2.00  1.0 MiB")), "{table}");
    }

    #[test]
    fn the_first_steps_are_timed_only_where_there_are_no_others() {
        let readings = |of: &[(usize, f64)]| Readings { ms_per_step: of.to_vec(), ..Default::default() };
        assert_eq!(readings(&[(0, 90.), (1, 80.), (2, 3.), (3, 1.), (4, 2.)]).median_ms_per_step(), 2.);
        assert_eq!(readings(&[(0, 90.), (10, 7.)]).median_ms_per_step(), 7.);
        assert_eq!(readings(&[(0, 90.)]).median_ms_per_step(), 90.);
        assert!(readings(&[]).median_ms_per_step().is_nan());
    }
}
