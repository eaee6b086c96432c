//! Rows of any float type, brought to f32 and back, and their sums.

use super::convert::Stored;
use super::{LANES, Simd, Work};
use crate::buffer::{Rows, Slice, SliceMut};
use half::{bf16, f16};
use rayon::prelude::*;
use std::ops::Range;

/// Elements that are worth another thread.
pub(crate) const PARALLEL: usize = 32 * 1024;

/// The elements of `x` in `range` as f32: f64 is rounded, integers are 0.
#[inline(always)]
pub(crate) fn load<S: Simd>(simd: S, x: Slice<'_>, range: Range<usize>, to: &mut [f32]) {
    match x {
        Slice::F16(x) => f16::read(simd, &x[range], to),
        Slice::Bf16(x) => bf16::read(simd, &x[range], to),
        Slice::F32(x) => to.copy_from_slice(&x[range]),
        Slice::F64(x) => {
            for (to, &from) in to.iter_mut().zip(&x[range]) {
                *to = from as f32;
            }
        }
        _ => to.fill(0.),
    }
}

/// Rounds `from` into `to`, to nearest even; integers are left alone.
#[inline(always)]
pub(crate) fn store<S: Simd>(simd: S, from: &[f32], to: &mut SliceMut<'_>, range: Range<usize>) {
    match to {
        SliceMut::F16(to) => f16::write(simd, from, &mut to[range]),
        SliceMut::Bf16(to) => bf16::write(simd, from, &mut to[range]),
        SliceMut::F32(to) => to[range].copy_from_slice(from),
        SliceMut::F64(to) => {
            for (to, &from) in to[range].iter_mut().zip(from) {
                *to = f64::from(from);
            }
        }
        _ => {}
    }
}

/// All elements of any float type, in f32.
pub(crate) struct Whole<'a>(pub(crate) Slice<'a>);

impl Work for Whole<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let mut wide = vec![0.; self.0.len()];
        load(simd, self.0, 0..self.0.len(), &mut wide);
        wide
    }
}

/// Does `work` on every task, on all threads where there is more than one task.
pub(crate) fn share_out<T: Send>(tasks: Vec<T>, work: impl Fn(T) + Sync + Send) {
    if tasks.len() > 1 {
        tasks.into_par_iter().for_each(work);
    } else {
        tasks.into_iter().for_each(work);
    }
}

/// `Σ f(x)`, in f64.
#[inline(always)]
pub(crate) fn sum(x: &[f32], f: impl Fn(f32) -> f64) -> f64 {
    let mut lanes = [0f64; LANES];
    let (groups, rest) = x.as_chunks::<LANES>();
    for group in groups {
        for lane in 0..LANES {
            lanes[lane] += f(group[lane]);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += f(x);
    }
    folded(lanes)
}

/// `Σ f(x, y)` over pairs, in f64.
#[inline(always)]
pub(crate) fn sum_pairs(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f64) -> f64 {
    let mut lanes = [0f64; LANES];
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in xs.iter().zip(ys) {
        for lane in 0..LANES {
            lanes[lane] += f(x[lane], y[lane]);
        }
    }
    for (lane, (&x, &y)) in lanes.iter_mut().zip(x_rest.iter().zip(y_rest)) {
        *lane += f(x, y);
    }
    folded(lanes)
}

#[inline(always)]
fn folded(mut lanes: [f64; LANES]) -> f64 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The largest element, NaN where one is NaN; −∞ of none.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (groups, rest) = x.as_chunks::<LANES>();
    for group in groups {
        for (lane, &x) in lanes.iter_mut().zip(group) {
            *lane = larger(*lane, x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = larger(*lane, x);
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, larger)
}

/// A NaN on the left stays; one on the right is not less.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a >= b || a.is_nan() { a } else { b }
}

/// A number as an f32, and what that loses of it. What an infinity loses is nothing.
#[inline(always)]
pub(crate) fn split(x: f64) -> (f32, f32) {
    let high = x as f32;
    let low = (x - f64::from(high)) as f32;
    (high, if high.is_finite() { low } else { 0. })
}

/// Rows of f64 one after another.
pub(crate) fn gather(x: &[f64], rows: Rows, which: Range<usize>) -> Vec<f64> {
    which.flat_map(|row| &x[row * rows.pitch..row * rows.pitch + rows.width]).copied().collect()
}

/// All elements of any float type, in f64.
pub(crate) fn to_f64(x: Slice<'_>) -> Vec<f64> {
    match x {
        Slice::F16(x) => x.iter().map(|x| x.to_f64()).collect(),
        Slice::Bf16(x) => x.iter().map(|x| x.to_f64()).collect(),
        Slice::F32(x) => x.iter().map(|&x| f64::from(x)).collect(),
        Slice::F64(x) => x.to_vec(),
        _ => vec![0.; x.len()],
    }
}
