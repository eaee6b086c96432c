//! The oracle, in f64 with compensated sums.

use super::GroupNorm;
use crate::kernels::norm::STATISTICS;
use crate::kernels::sum::{Accumulator, Compensated};

fn sum(terms: impl Iterator<Item = f64>) -> f64 {
    let mut sum = Compensated::default();
    terms.for_each(|t| sum.add(t));
    sum.value()
}

/// The values and statistics of [`forward`](super::forward()) for whole samples of `x`.
pub fn forward_scalar(
    norm: GroupNorm,
    x: &[f64],
    weight: Option<&[f64]>,
    bias: Option<&[f64]>,
) -> (Vec<f64>, Vec<f64>) {
    let (mut y, mut statistics) = (Vec::with_capacity(x.len()), Vec::new());
    let width = norm.width().max(1);
    for group in x.chunks_exact(width) {
        let mean = |f: &dyn Fn(f64) -> f64| sum(group.iter().map(|&x| f(x))) / width as f64;
        let high = mean(&|x| x);
        let low = mean(&|x| x - high);
        let rstd = 1. / (mean(&|x| (x - high - low) * (x - high - low)) + norm.eps).sqrt();
        statistics.extend([high, low, rstd]);
        for &x in group {
            let channel = y.len() / norm.positions % norm.channels;
            let normalized = (x - high - low) * rstd;
            y.push(normalized * weight.map_or(1., |w| w[channel]) + bias.map_or(0., |b| b[channel]));
        }
    }
    (y, statistics)
}

/// The gradients of [`backward`](super::backward()) for whole samples: of `x`, of the weight and of the bias.
pub fn backward_scalar(
    norm: GroupNorm,
    dy: &[f64],
    x: &[f64],
    weight: Option<&[f64]>,
    statistics: &[f64],
) -> [Vec<f64>; 3] {
    let width = norm.width().max(1);
    let channel = |i: usize| i / norm.positions % norm.channels;
    let normalized = |i: usize| {
        let of = &statistics[i / width * STATISTICS..];
        (x[i] - of[0] - of[1]) * of[2]
    };
    let scaled = |i: usize| dy[i] * weight.map_or(1., |w| w[channel(i)]);
    let mut dx = Vec::with_capacity(x.len());
    for first in (0..x.len()).step_by(width) {
        let mean = |f: &dyn Fn(usize) -> f64| sum((first..first + width).map(f)) / width as f64;
        let along = mean(&|i| scaled(i) * normalized(i));
        let high = mean(&scaled);
        let low = mean(&|i| scaled(i) - high);
        let rstd = statistics[first / width * STATISTICS + 2];
        dx.extend((first..first + width).map(|i| (scaled(i) - high - low - normalized(i) * along) * rstd));
    }
    let of_channel =
        |c: usize, f: &dyn Fn(usize) -> f64| sum((0..x.len()).filter(|&i| channel(i) == c).map(f));
    let dw = (0..norm.channels).map(|c| of_channel(c, &|i| dy[i] * normalized(i))).collect();
    let db = (0..norm.channels).map(|c| of_channel(c, &|i| dy[i])).collect();
    [dx, dw, db]
}
