//! Which precision to train at on this machine: a few steps at every one that it supports, side by side.

use std::fmt;
use std::time::Instant;

use candle_core::Tensor;

use crate::{Accelerator, Fit, IntoAcceleratorChoice, Precision, Result, Trainer, TrainingModule};

/// Steps at each precision, unless told otherwise.
const STEPS: usize = 12;

/// The first steps, which pay for what is made once and are not timed.
const WARM_UP: usize = 2;

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

/// A few steps at one precision.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Measured {
    /// The median time of a step, in milliseconds.
    pub ms_per_step: f64,
    /// Bytes of parameters, gradients and the optimizers' state. Activations, which depend on the batch, come on top.
    pub state_bytes: usize,
    /// The loss before the first step.
    pub first_loss: f64,
    /// The loss of the last step.
    pub last_loss: f64,
    /// Steps that were skipped; a loss scale that is being found skips some.
    pub skipped_steps: usize,
    /// Whether every loss was a number, fewer than half of the steps were skipped, and the last loss is within a tenth of
    /// 32-true's.
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
        let supported = Precision::ALL.into_iter().filter(|p| p.supported_on(accelerator).is_ok());
        let mut rows: Vec<Row> = supported
            .map(|precision| {
                let outcome = measure(precision, accelerator, module, batches, steps);
                Row { precision, outcome: outcome.map_err(|error| error.to_string()) }
            })
            .collect();
        judge(&mut rows, steps);
        Ok(Recommendation { accelerator, rows })
    }
}

fn measure<M>(
    precision: Precision,
    accelerator: Accelerator,
    module: &M,
    batches: &[M::Batch],
    steps: usize,
) -> Result<Measured>
where
    M: TrainingModule,
    M::Batch: Clone,
{
    let trainer = Trainer::builder()
        .precision(precision)
        .accelerator(accelerator)
        .max_steps(steps)
        .on_notice(|_| ())
        .build()?;
    let (mut times, mut last) = (Vec::new(), Instant::now());
    let fit = trainer.fit_with(module, batches.iter().cycle().cloned(), |step| {
        // Reading it waits for the device.
        step.loss()?;
        times.push(1e3 * std::mem::replace(&mut last, Instant::now()).elapsed().as_secs_f64());
        Ok(())
    })?;
    let timed = times.len().saturating_sub(WARM_UP).max(1);
    let mut times = times.split_off(times.len() - timed);
    times.sort_by(f64::total_cmp);
    let ends = (fit.losses.first().copied(), fit.losses.last().copied());
    Ok(Measured {
        ms_per_step: times[times.len() / 2],
        state_bytes: state_bytes(&fit)?,
        first_loss: ends.0.unwrap_or(f64::NAN),
        last_loss: ends.1.unwrap_or(f64::NAN),
        skipped_steps: fit.skipped_steps,
        is_safe: fit.losses.iter().all(|loss| loss.is_finite()),
    })
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

/// Holds the losses to 32-true's, which every accelerator supports.
fn judge(rows: &mut [Row], steps: usize) {
    let known = rows.iter().find(|row| row.precision == Precision::F32True);
    let Some(wanted) = known.and_then(|row| Some(row.outcome.as_ref().ok()?.last_loss)) else { return };
    for measured in rows.iter_mut().filter_map(|row| row.outcome.as_mut().ok()) {
        let close = (measured.last_loss - wanted).abs() <= CLOSE * wanted.abs();
        measured.is_safe &= close && 2 * measured.skipped_steps < steps;
    }
}

impl Recommendation {
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

impl fmt::Display for Recommendation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fastest, smallest) = (self.fastest(), self.smallest());
        writeln!(
            f,
            "{:<12}{:>10}{:>12}{:>12}{:>12}{:>9}  verdict",
            "precision", "ms/step", "state MiB", "first loss", "last loss", "skipped"
        )?;
        for Row { precision, outcome } in &self.rows {
            let measured = match outcome {
                Ok(measured) => measured,
                Err(error) => {
                    writeln!(
                        f,
                        "{precision:<12}does not train: {}",
                        error.lines().next().unwrap_or_default()
                    )?;
                    continue;
                }
            };
            let mut verdict = vec![if measured.is_safe { "safe" } else { "look at the losses" }];
            verdict.extend((Some(*precision) == fastest).then_some("fastest"));
            verdict.extend((Some(*precision) == smallest).then_some("smallest"));
            writeln!(
                f,
                "{precision:<12}{:>10.2}{:>12.1}{:>12.4}{:>12.4}{:>9}  {}",
                measured.ms_per_step,
                measured.state_bytes as f64 / f64::from(1 << 20),
                measured.first_loss,
                measured.last_loss,
                measured.skipped_steps,
                verdict.join(", ")
            )?;
        }
        Ok(())
    }
}
