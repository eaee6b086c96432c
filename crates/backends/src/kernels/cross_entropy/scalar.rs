//! The oracle, in f64.

use super::CrossEntropy;

/// The losses and `lse` of whole rows. `None` as a target stands for a row that is left out.
pub fn forward_scalar(loss: CrossEntropy, x: &[f64], targets: &[Option<usize>]) -> (Vec<f64>, Vec<f64>) {
    let smoothing = loss.label_smoothing;
    let rows = x.chunks_exact(loss.classes.max(1)).zip(targets);
    rows.map(|(row, target)| {
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let lse = max + row.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
        let Some(target) = *target else { return (0., lse) };
        let mut value = 0.;
        if smoothing < 1. {
            value += (1. - smoothing) * (lse - row[target]);
        }
        if smoothing > 0. {
            value += smoothing / loss.classes as f64 * row.iter().map(|x| lse - x).sum::<f64>();
        }
        (value, lse)
    })
    .unzip()
}

/// The gradient of whole rows of logits.
pub fn backward_scalar(
    loss: CrossEntropy,
    x: &[f64],
    targets: &[Option<usize>],
    lse: &[f64],
    factors: &[f64],
) -> Vec<f64> {
    let even = loss.label_smoothing / loss.classes as f64;
    let mut dx = Vec::with_capacity(x.len());
    for (r, row) in x.chunks_exact(loss.classes.max(1)).enumerate() {
        let factor = factors[r];
        dx.extend(row.iter().enumerate().map(|(c, x)| match targets[r] {
            Some(target) if factor != 0. => {
                let own = if c == target { 1. - loss.label_smoothing } else { 0. };
                factor * (x - lse[r]).exp() - factor * even - factor * own
            }
            _ => 0.,
        }));
    }
    dx
}
