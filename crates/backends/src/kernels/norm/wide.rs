//! f64: the oracle itself, its rows shared out among threads.

use super::{Norm, STATISTICS, backward_scalar, forward_scalar};
use crate::buffer::{Rows, Slice};
use crate::simd::rows::{PARALLEL, gather, share_out, to_f64};

pub(super) fn forward(
    norm: Norm,
    (x, rows): (&[f64], Rows),
    parameters: [Option<Slice<'_>>; 2],
    y: &mut [f64],
    statistics: &mut [f64],
) {
    let [weight, bias] = parameters.map(|p| p.map(to_f64));
    let each = (PARALLEL / rows.width).max(1);
    let tasks = y.chunks_mut(each * rows.width).zip(statistics.chunks_mut(each * STATISTICS)).enumerate();
    share_out(tasks.collect(), |(i, (y, statistics))| {
        let x = gather(x, rows, i * each..i * each + y.len() / rows.width);
        let (values, saved) = forward_scalar(norm, &x, weight.as_deref(), bias.as_deref());
        y.copy_from_slice(&values);
        statistics.copy_from_slice(&saved);
    });
}

pub(super) fn backward(
    norm: Norm,
    (x, dy, (x_rows, dy_rows)): (&[f64], &[f64], (Rows, Rows)),
    weight: Option<Slice<'_>>,
    statistics: &[f64],
    grads: [Option<&mut [f64]>; 3],
    plus: Option<Slice<'_>>,
) {
    let weight = weight.map(to_f64);
    let (x, dy) = (gather(x, x_rows, 0..x_rows.count), gather(dy, dy_rows, 0..dy_rows.count));
    let mut values = backward_scalar(norm, &dy, &x, weight.as_deref(), statistics);
    if let Some(plus) = plus.map(to_f64) {
        values[0].iter_mut().zip(&plus).for_each(|(dx, plus)| *dx += plus);
    }
    for (grad, values) in grads.into_iter().zip(values) {
        if let Some(grad) = grad {
            grad.copy_from_slice(&values);
        }
    }
}
