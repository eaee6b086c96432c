//! The oracle, in f64 with compensated sums.

use super::{Centre, Norm, STATISTICS};
use crate::kernels::sum::{Accumulator, Compensated};

fn mean(terms: impl Iterator<Item = f64>, width: usize) -> f64 {
    let mut sum = Compensated::default();
    terms.for_each(|t| sum.add(t));
    sum.value() / width as f64
}

/// The values and statistics of [`forward`](super::forward()) for whole rows of `x`.
pub fn forward_scalar(
    norm: Norm,
    x: &[f64],
    weight: Option<&[f64]>,
    bias: Option<&[f64]>,
) -> (Vec<f64>, Vec<f64>) {
    let (mut y, mut statistics) = (Vec::with_capacity(x.len()), Vec::new());
    for row in x.chunks_exact(norm.width.max(1)) {
        let (mut high, mut low) = (0., 0.);
        if norm.centre == Centre::Mean {
            high = mean(row.iter().copied(), norm.width);
            low = mean(row.iter().map(|x| x - high), norm.width);
        }
        let square = |x: &f64| (x - high - low) * (x - high - low);
        let rstd = 1. / (mean(row.iter().map(square), norm.width) + norm.eps).sqrt();
        statistics.extend([high, low, rstd]);
        y.extend(row.iter().enumerate().map(|(i, x)| {
            let normalized = (x - high - low) * rstd;
            normalized * weight.map_or(1., |w| w[i]) + bias.map_or(0., |b| b[i])
        }));
    }
    (y, statistics)
}

/// The gradients of [`backward`](super::backward()) for whole rows: of `x`, of the weight and of the bias.
pub fn backward_scalar(
    norm: Norm,
    dy: &[f64],
    x: &[f64],
    weight: Option<&[f64]>,
    statistics: &[f64],
) -> [Vec<f64>; 3] {
    let width = norm.width.max(1);
    let mut dx = Vec::with_capacity(x.len());
    let mut sums = [vec![Compensated::default(); width], vec![Compensated::default(); width]];
    let rows = x.chunks_exact(width).zip(dy.chunks_exact(width));
    for ((x, g), statistics) in rows.zip(statistics.chunks_exact(STATISTICS)) {
        let normalized = |i: usize| (x[i] - statistics[0] - statistics[1]) * statistics[2];
        let scaled = |i: usize| g[i] * weight.map_or(1., |w| w[i]);
        let along = mean((0..width).map(|i| scaled(i) * normalized(i)), width);
        let (mut high, mut low) = (0., 0.);
        if norm.centre == Centre::Mean {
            high = mean((0..width).map(scaled), width);
            low = mean((0..width).map(|i| scaled(i) - high), width);
        }
        dx.extend((0..width).map(|i| (scaled(i) - high - low - normalized(i) * along) * statistics[2]));
        for i in 0..width {
            sums[0][i].add(g[i] * normalized(i));
            sums[1][i].add(g[i]);
        }
    }
    let [dw, db] = sums.map(|sums| sums.into_iter().map(Accumulator::value).collect());
    [dx, dw, db]
}
