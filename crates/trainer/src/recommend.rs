//! Which precision to train at on this machine: a few steps at every one that it supports, side by side. Measuring is
//! [`measure`](crate::measure)'s; here is what follows from its numbers.

use std::fmt;

use crate::progress::number;
use crate::table::{aligned, bytes};
use crate::{Accelerator, IntoAcceleratorChoice, Measured, Precision, Result, Trainer, TrainingModule};

/// Steps at each precision, unless told otherwise.
const STEPS: usize = 12;

/// How far above 32-true's a loss may be to be called safe: as a share of that loss, or of what was learnt until it.
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

impl Trainer {
    /// Trains `module` for a few steps at every precision that this machine's best accelerator supports, from the same weights
    /// and on the same batches, over and over.
    ///
    /// A precision at which the module does not train is a row that says why. Nothing is kept of the training.
    ///
    /// ```
    /// # fn main() -> trainer::Result<()> {
    /// # use trainer::doc_example::{Line, batches};
    /// use trainer::Trainer;
    ///
    /// let standing = Trainer::recommend_on("cpu", &Line, &batches(4)?, 4)?;
    /// println!("{standing}");
    /// assert!(standing.fastest().is_some() && standing.rows.len() == 5);
    /// # Ok(())
    /// # }
    /// ```
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

/// Holds the losses to 32-true's, where there is one.
fn judge(rows: &mut [Row]) {
    let known = rows.iter().find(|row| row.precision == Precision::F32True);
    let Some(wanted) = known.and_then(|row| Some(row.outcome.as_ref().ok()?.last_loss)) else { return };
    for measured in rows.iter_mut().filter_map(|row| row.outcome.as_mut().ok()) {
        let learnt = measured.first_loss - wanted;
        let close = measured.last_loss - wanted <= CLOSE * wanted.abs().max(learnt);
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
            (Precision::Bf16Mixed, Ok(measured(1.15, 2., 0))),
            (Precision::Bf16True, Ok(measured(1.3, 1., 0))),
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
}
