//! The oracle, in f64.

use super::{Form, Seen};

/// The value of whole rows.
pub fn forward_scalar(form: Form, seen: Seen, width: usize, x: &[f64]) -> Vec<f64> {
    let mut y = Vec::with_capacity(x.len());
    for (i, row) in x.chunks_exact(width.max(1)).enumerate() {
        let (row, beyond) = row.split_at(seen.of(i, width));
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|x| (x - max).exp()).sum();
        y.extend(row.iter().map(|x| match form {
            Form::Softmax => (x - max).exp() / sum,
            Form::LogSoftmax => x - max - sum.ln(),
        }));
        y.extend(beyond.iter().map(|_| 0.));
    }
    y
}

/// The gradient of whole rows, from that of the value and the value.
pub fn backward_scalar(form: Form, seen: Seen, width: usize, dy: &[f64], y: &[f64]) -> Vec<f64> {
    let mut dx = Vec::with_capacity(y.len());
    for (i, (g, y)) in dy.chunks_exact(width.max(1)).zip(y.chunks_exact(width.max(1))).enumerate() {
        let ((g, beyond), (y, _)) = (g.split_at(seen.of(i, width)), y.split_at(seen.of(i, width)));
        let along: f64 = g.iter().zip(y).map(|(g, y)| g * y).sum();
        let total: f64 = g.iter().sum();
        dx.extend(g.iter().zip(y).map(|(g, y)| match form {
            Form::Softmax => y * (g - along),
            Form::LogSoftmax => g - y.exp() * total,
        }));
        dx.extend(beyond.iter().map(|_| 0.));
    }
    dx
}
