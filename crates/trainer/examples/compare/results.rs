//! The result of one run and of the whole comparison, as `report.json` holds them, and the table printed at the end. What is said of a precision is the
//! trainer's own recommendation.

use serde::Serialize;
use trainer::report::aligned;
use trainer::{Accelerator, Measured, Precision, Recommendation};

/// What one precision achieved.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) precision: Precision,
    #[serde(flatten)]
    pub(crate) measured: Measured,
    pub(crate) tokens_per_s: f64,
    pub(crate) peak_bytes: u64,
    pub(crate) heldout_loss: f64,
    /// The share of held-out sums answered right, where the task has answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exact_match: Option<f64>,
    pub(crate) losses: Vec<f64>,
}

/// All runs, in the order in which they ran.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Results {
    #[serde(skip)]
    pub(crate) accelerator: Accelerator,
    pub(crate) runs: Vec<Run>,
}

/// The columns of the table, with what each one means.
pub(crate) const COLUMNS: [(&str, &str); 11] = [
    ("precision", "what was passed to .precision(..)"),
    ("ms/step", "median wall-clock time of a training step"),
    ("tokens/s", "tokens trained on per second at that step time"),
    ("speed-up", "over 32-true in this same comparison"),
    ("peak MiB", "most memory in use at once during training, measured"),
    ("first loss", "before the first update"),
    ("last loss", "mean of the last steps"),
    ("held-out", "loss on data that was never trained on"),
    ("exact", "held-out sums answered right in every digit"),
    ("skipped", "steps that the loss scaler skipped"),
    (
        "verdict",
        "safe where the loss ends about where 32-true's does, or below; of the safe ones the fastest and the smallest",
    ),
];

impl Results {
    /// The run that the others are compared with.
    pub(crate) fn baseline(&self) -> Option<&Run> {
        self.runs.iter().find(|run| run.precision == Precision::F32True)
    }

    /// One row of cells per run, under [`COLUMNS`].
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        let baseline = self.baseline().map(|run| run.measured.ms_per_step);
        let measured = self.runs.iter().map(|run| (run.precision, Ok(run.measured.clone())));
        let standing = Recommendation::new(self.accelerator, measured);
        let verdicts = standing.rows.iter().map(|row| standing.verdict(row));
        self.runs.iter().zip(verdicts).map(|(run, verdict)| run.cells(baseline, verdict)).collect()
    }

    /// The table as aligned text.
    pub(crate) fn to_table(&self) -> String {
        aligned(&COLUMNS.map(|(title, _)| title), &self.rows())
    }
}

impl Run {
    fn cells(&self, baseline_ms: Option<f64>, verdict: String) -> Vec<String> {
        let Measured { ms_per_step, first_loss, last_loss, skipped_steps, .. } = self.measured;
        vec![
            self.precision.to_string(),
            format!("{ms_per_step:.2}"),
            format!("{:.0}", self.tokens_per_s),
            baseline_ms.map_or_else(|| "–".to_string(), |ms| format!("{:.2}x", ms / ms_per_step)),
            format!("{:.1}", self.peak_bytes as f64 / (1024. * 1024.)),
            loss(first_loss),
            loss(last_loss),
            loss(self.heldout_loss),
            self.exact_match.map_or_else(|| "–".to_string(), |share| format!("{:.1}%", 100. * share)),
            skipped_steps.to_string(),
            verdict,
        ]
    }
}

fn loss(value: f64) -> String {
    if value.is_finite() { format!("{value:.4}") } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(runs: &[(Precision, f64)]) -> Results {
        let run = |&(precision, ms_per_step): &(Precision, f64)| {
            let mut measured = Measured::default();
            (measured.ms_per_step, measured.steps, measured.last_loss) = (ms_per_step, 2, f64::NAN);
            let (tokens_per_s, peak_bytes, heldout_loss) = (1024e3 / ms_per_step, 3 << 20, 0.25);
            let losses = vec![2.5, f64::NAN];
            Run { precision, measured, tokens_per_s, peak_bytes, heldout_loss, exact_match: None, losses }
        };
        Results { accelerator: Accelerator::Cpu, runs: runs.iter().map(run).collect() }
    }

    #[test]
    fn speed_up_is_over_32_true_wherever_it_stands() {
        let speed_ups = |runs: &[(Precision, f64)]| -> Vec<String> {
            results(runs).rows().into_iter().map(|row| row[3].clone()).collect()
        };
        assert_eq!(speed_ups(&[(Precision::Bf16Mixed, 5.), (Precision::F32True, 10.)]), ["2.00x", "1.00x"]);
        assert_eq!(speed_ups(&[(Precision::Bf16Mixed, 5.)]), ["–"]);
    }

    #[test]
    fn a_loss_that_is_not_a_number_shows_and_is_not_safe() {
        let table = results(&[(Precision::F32True, 10.)]).to_table();
        assert!(table.contains("NaN") && table.contains("look at the losses"), "{table}");
    }
}
