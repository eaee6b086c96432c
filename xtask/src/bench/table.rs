//! The table: a row for each case, as Markdown.

use super::plan::Case;

/// The times of a case, one of each round, in milliseconds.
pub(super) struct Row {
    case: Case,
    pub(super) ours: Vec<f64>,
    pub(super) theirs: Vec<f64>,
}

impl Row {
    pub(super) fn new(case: &Case) -> Self {
        Self { case: *case, ours: Vec::new(), theirs: Vec::new() }
    }

    /// The round that has just ended.
    pub(super) fn progress(&self) -> String {
        let last = |times: &[f64]| times.last().map_or_else(|| "–".into(), |&ms| digits(ms));
        format!("{}: ours {} ms, PyTorch {}", self.case.name(), last(&self.ours), last(&self.theirs))
    }

    fn cells(&self) -> [String; 5] {
        let (ours, theirs) = (median(&self.ours), median(&self.theirs));
        let shown = |times: &[f64]| match times {
            [] => "–".to_owned(),
            times => times.iter().map(|&ms| digits(ms)).collect::<Vec<_>>().join(", "),
        };
        let ratio =
            ours.zip(theirs).map_or_else(|| "–".into(), |(ours, theirs)| format!("{:.2}", ours / theirs));
        let workload = format!("{} {}", self.case.what.name(), self.case.workload);
        [workload, self.case.precision.into(), shown(&self.ours), shown(&self.theirs), ratio]
    }
}

/// All rows under a head.
pub(super) fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "| workload | precision | ours, ms | Lightning (PyTorch), ms | ratio |\n|---|---|---|---|---|\n",
    );
    for row in rows {
        text += &format!("| {} |\n", row.cells().join(" | "));
    }
    text
}

/// The middle one; of an even number, the mean of the two in the middle.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    Some((sorted[(sorted.len() - 1) / 2] + upper) / 2.)
}

/// Three digits that mean something.
fn digits(ms: f64) -> String {
    format!("{ms:.*}", if ms < 10. { 2 } else { usize::from(ms < 100.) })
}

#[cfg(test)]
mod tests {
    use super::super::plan::What;
    use super::*;

    fn row(ours: &[f64], theirs: &[f64]) -> Row {
        let case = Case { what: What::Train, workload: "gpt_mini", precision: "32-true" };
        Row { case, ours: ours.to_vec(), theirs: theirs.to_vec() }
    }

    #[test]
    fn a_ratio_is_of_the_medians_and_needs_both_sides() {
        assert_eq!(
            row(&[10., 20.], &[30., 30.]).cells().join(" "),
            "train gpt_mini 32-true 10.0, 20.0 30.0, 30.0 0.50"
        );
        assert_eq!(row(&[512.], &[]).cells().join(" "), "train gpt_mini 32-true 512 – –");
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(
            (median(&[]), median(&[3., 1., 2.]), median(&[4., 1., 2., 3.])),
            (None, Some(2.), Some(2.5))
        );
    }
}
