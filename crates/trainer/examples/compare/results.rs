//! The result of one run and of the whole comparison, as `report.json` holds them, and the table printed at the end.

use serde::Serialize;

/// What one precision achieved.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) precision: String,
    pub(crate) ms_per_step: f64,
    pub(crate) tokens_per_s: f64,
    pub(crate) peak_bytes: u64,
    pub(crate) first_loss: f64,
    pub(crate) last_loss: f64,
    pub(crate) heldout_loss: f64,
    /// The share of held-out sums answered right, where the task has answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exact_match: Option<f64>,
    pub(crate) skipped_steps: usize,
    pub(crate) losses: Vec<f64>,
}

/// All runs, in the order in which they ran.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Results {
    pub(crate) runs: Vec<Run>,
}

/// The columns of the table, with what each one means.
pub(crate) const COLUMNS: [(&str, &str); 10] = [
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
];

impl Results {
    /// The run that the others are compared with.
    pub(crate) fn baseline(&self) -> Option<&Run> {
        self.runs.iter().find(|run| run.precision == "32-true")
    }

    /// One row of cells per run, under [`COLUMNS`].
    pub(crate) fn rows(&self) -> Vec<[String; 10]> {
        let baseline = self.baseline().map(|run| run.ms_per_step);
        self.runs.iter().map(|run| run.cells(baseline)).collect()
    }

    /// The table as aligned text.
    pub(crate) fn to_table(&self) -> String {
        let mut lines = vec![COLUMNS.map(|(title, _)| title.to_string())];
        lines.extend(self.rows());
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..COLUMNS.len()).map(width).collect();
        let mut table = String::new();
        for line in &lines {
            let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            table += cells.collect::<Vec<_>>().join("  ").trim_end();
            table.push('\n');
        }
        table
    }
}

impl Run {
    fn cells(&self, baseline_ms: Option<f64>) -> [String; 10] {
        [
            self.precision.clone(),
            format!("{:.2}", self.ms_per_step),
            format!("{:.0}", self.tokens_per_s),
            baseline_ms.map_or_else(|| "–".to_string(), |ms| format!("{:.2}x", ms / self.ms_per_step)),
            format!("{:.1}", self.peak_bytes as f64 / (1024. * 1024.)),
            loss(self.first_loss),
            loss(self.last_loss),
            loss(self.heldout_loss),
            self.exact_match.map_or_else(|| "–".to_string(), |share| format!("{:.1}%", 100. * share)),
            self.skipped_steps.to_string(),
        ]
    }
}

fn loss(value: f64) -> String {
    if value.is_finite() { format!("{value:.4}") } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(precision: &str, ms_per_step: f64) -> Run {
        Run {
            precision: precision.to_string(),
            ms_per_step,
            tokens_per_s: 1024e3 / ms_per_step,
            peak_bytes: 3 << 20,
            first_loss: 2.5,
            last_loss: f64::NAN,
            heldout_loss: 0.25,
            exact_match: None,
            skipped_steps: 2,
            losses: vec![2.5, 0.25],
        }
    }

    #[test]
    fn speed_up_is_over_32_true_wherever_it_stands() {
        let results = Results { runs: vec![run("bf16-mixed", 5.), run("32-true", 10.)] };
        let speed_ups: Vec<_> = results.rows().into_iter().map(|row| row[3].clone()).collect();
        assert_eq!(speed_ups, ["2.00x", "1.00x"]);
        assert_eq!(Results { runs: vec![run("bf16-mixed", 5.)] }.rows()[0][3], "–");
    }

    #[test]
    fn the_table_is_aligned_and_shows_a_loss_that_is_not_a_number() {
        let table = Results { runs: vec![run("32-true", 10.)] }.to_table();
        let widths: Vec<_> = table.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths.len(), 2);
        assert_eq!(widths[0], widths[1], "{table}");
        assert!(table.contains("NaN"));
    }
}
