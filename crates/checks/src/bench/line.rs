//! What a measurement prints: one line of JSON, so that runs can be compared by program.

use serde::Serialize;

/// A workload at a precision. What was not measured is left out.
#[derive(Debug, Default, Serialize)]
pub struct Line {
    /// The workload.
    pub w: String,
    /// The precision.
    pub p: String,
    /// Samples in a batch.
    pub bs: usize,
    /// Pixels on a side of an image, where it is not the workload's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub side: Option<usize>,
    /// Whether f32 may be rounded to TF32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tf32: Option<bool>,
    /// Whether weights are rounded by chance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stochastic: Option<bool>,
    /// Whether passes are replayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph: Option<bool>,
    /// Whether algorithms are chosen by the clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timed: Option<bool>,
    /// The median time of a step, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<f64>,
    /// The shortest, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_ms: Option<f64>,
    /// Tokens, or samples where there are none, in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_s: Option<u64>,
    /// The most memory in use beyond what was in use before the model was created, in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_mib: Option<u64>,
    /// The losses of the first, the second, the tenth and the last step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub loss: Vec<f64>,
    /// Steps that were skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<usize>,
    /// Why there is nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Line {
    /// With the times of steps of `units` tokens or samples each, in seconds.
    pub(crate) fn timed(self, seconds: &[f64], units: usize) -> Self {
        let (median, least) = (median(seconds), seconds.iter().copied().reduce(f64::min));
        Self {
            ms: median.map(|s| round(s * 1e3, 3)),
            min_ms: least.map(|s| round(s * 1e3, 3)),
            per_s: median.map(|s| (units as f64 / s).round() as u64),
            ..self
        }
    }

    /// What went wrong, without what follows its first line.
    pub(crate) fn failed(self, error: &dyn std::fmt::Display) -> Self {
        let text = error.to_string();
        Self { error: Some(text.lines().next().unwrap_or("unknown").chars().take(200).collect()), ..self }
    }
}

/// Prints anything as one line of JSON.
pub(crate) fn print(line: &impl Serialize) -> crate::report::Outcome<()> {
    println!("{}", serde_json::to_string(line)?);
    Ok(())
}

/// The middle one; of an even number, the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    Some(if sorted.len() % 2 == 1 { upper } else { (sorted[half - 1] + upper) / 2. })
}

/// `value` with so many decimals.
pub(crate) fn round(value: f64, decimals: i32) -> f64 {
    let unit = 10f64.powi(decimals);
    (value * unit).round() / unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3., 1., 2.]), Some(2.));
        assert_eq!(median(&[4., 1., 2., 3.]), Some(2.5));
    }

    #[test]
    fn what_was_not_measured_is_left_out() {
        let line = Line { w: "mlp".into(), p: "32-true".into(), bs: 4, ..Default::default() };
        let failed = serde_json::to_string(&line.failed(&"first\nsecond")).unwrap_or_default();
        assert_eq!(failed, r#"{"w":"mlp","p":"32-true","bs":4,"error":"first"}"#);
    }
}
