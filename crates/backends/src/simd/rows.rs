//! Rows of any float type, brought to f32 and back, and their sums.

use super::convert::Stored;
use super::{Simd, Work};
use crate::Real;
use crate::buffer::{Rows, Slice, SliceMut};
use half::{bf16, f16};
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

/// The elements of `x` in `range` as f32: where they lie if they are, else in `buffer`, of as many.
#[inline(always)]
pub(crate) fn seen<'a, S: Simd>(
    simd: S,
    x: Slice<'a>,
    range: Range<usize>,
    buffer: &'a mut [f32],
) -> &'a [f32] {
    if let Slice::F32(x) = x {
        return &x[range];
    }
    load(simd, x, range, buffer);
    buffer
}

/// Where f32 are to be written which [`settle`] leaves in `range` of `to`: there if it is of f32, else `buffer`, of as many.
#[inline(always)]
pub(crate) fn place<'a>(
    to: &'a mut SliceMut<'_>,
    range: Range<usize>,
    buffer: &'a mut [f32],
) -> &'a mut [f32] {
    match to {
        SliceMut::F32(to) => &mut to[range],
        _ => buffer,
    }
}

/// Rounds what was written to a [`place`] that was the buffer's.
#[inline(always)]
pub(crate) fn settle<S: Simd>(simd: S, buffer: &[f32], to: &mut SliceMut<'_>, range: Range<usize>) {
    if !matches!(to, SliceMut::F32(_)) {
        store(simd, buffer, to, range);
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

/// Sums that are taken side by side: more than a compiler writes out one by one, which it then does not bring together in vectors.
pub(crate) const SUMS: usize = 64;

/// `Σ f(x)`, in f64.
#[inline(always)]
pub(crate) fn sum(x: &[f32], f: impl Fn(f32) -> f64) -> f64 {
    let mut sums = [0f64; SUMS];
    let (groups, rest) = x.as_chunks::<SUMS>();
    for group in groups {
        for (sum, &x) in sums.iter_mut().zip(group) {
            *sum += f(x);
        }
    }
    for (sum, &x) in sums.iter_mut().zip(rest) {
        *sum += f(x);
    }
    folded(&sums)
}

/// `Σ f(x, y)` over pairs, in f64.
#[inline(always)]
pub(crate) fn sum_pairs(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f64) -> f64 {
    let mut sums = [0f64; SUMS];
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<SUMS>(), y.as_chunks::<SUMS>());
    for (x, y) in xs.iter().zip(ys) {
        for ((sum, &x), &y) in sums.iter_mut().zip(x).zip(y) {
            *sum += f(x, y);
        }
    }
    for (sum, (&x, &y)) in sums.iter_mut().zip(x_rest.iter().zip(y_rest)) {
        *sum += f(x, y);
    }
    folded(&sums)
}

/// The sum of all, each of eight lanes by itself first.
#[inline(always)]
pub(crate) fn folded(sums: &[f64; SUMS]) -> f64 {
    let mut lanes = [0f64; 8];
    for group in sums.as_chunks::<8>().0 {
        lanes.iter_mut().zip(group).for_each(|(lane, sum)| *lane += sum);
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// The largest element of those that are numbers; −∞ of none.
#[inline(always)]
pub(crate) fn max<T: Real>(x: &[T]) -> T {
    let mut lanes = [T::from_f64(f64::NEG_INFINITY); SUMS];
    let (groups, rest) = x.as_chunks::<SUMS>();
    for group in groups {
        lanes.iter_mut().zip(group).for_each(|(lane, &x)| *lane = lane.larger(x));
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, &x)| *lane = lane.larger(x));
    lanes.into_iter().fold(lanes[0], T::larger)
}

/// A number as an f32, and what that loses of it. What an infinity loses is nothing.
#[inline(always)]
pub(crate) fn split(x: f64) -> (f32, f32) {
    let high = x as f32;
    let low = (x - f64::from(high)) as f32;
    (high, if high.is_finite() { low } else { 0. })
}

/// `x` less a number in two parts, the smaller one last.
#[inline(always)]
pub(crate) fn less<T: Real>(x: T, [high, low]: [T; 2]) -> T {
    x - high - low
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
