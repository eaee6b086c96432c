//! The oracle, in f64.

use super::CrossEntropy;

/// The losses of whole rows, and of each `lse` in two parts: the maximum, and what is to be added. `None` as a target stands for a
/// row that is left out.
pub fn forward_scalar(loss: CrossEntropy, x: &[f64], targets: &[Option<usize>]) -> (Vec<f64>, Vec<[f64; 2]>) {
    let smoothing = loss.label_smoothing;
    let rows = x.chunks_exact(loss.classes.max(1)).zip(targets);
    rows.map(|(row, target)| {
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log = row.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
        let Some(target) = *target else { return (0., [max, log]) };
        let mut value = 0.;
        if smoothing < 1. {
            value += (1. - smoothing) * (log + (max - row[target]));
        }
        if smoothing > 0. {
            value += smoothing / loss.classes as f64 * row.iter().map(|x| log + (max - x)).sum::<f64>();
        }
        (value, [max, log])
    })
    .unzip()
}

/// The gradient of whole rows of logits.
pub fn backward_scalar(
    loss: CrossEntropy,
    x: &[f64],
    targets: &[Option<usize>],
    lse: &[[f64; 2]],
    factors: &[f64],
) -> Vec<f64> {
    let even = loss.label_smoothing / loss.classes as f64;
    let mut dx = Vec::with_capacity(x.len());
    for (r, row) in x.chunks_exact(loss.classes.max(1)).enumerate() {
        let (factor, [max, log]) = (factors[r], lse[r]);
        dx.extend(row.iter().enumerate().map(|(c, x)| match targets[r] {
            Some(target) if factor != 0. => {
                let own = if c == target { 1. - loss.label_smoothing } else { 0. };
                factor * ((x - max) - log).exp() - factor * even - factor * own
            }
            _ => 0.,
        }));
    }
    dx
}
