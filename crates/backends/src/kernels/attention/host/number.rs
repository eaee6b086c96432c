//! The two types that attention is computed in on a CPU.

use crate::Store;
use crate::buffer::{Scalar, Slice, SliceMut};
use crate::kernels::product::Float;
use crate::simd::{LANES, Simd, math, rows};
use std::ops::Range;

/// f32, or f64 for inputs in f64.
pub(super) trait Number: Float + Scalar {
    /// Less than every number.
    const LOWEST: Self;

    /// `e^x` for `x` up to 0 and a little above.
    fn exp<S: Simd>(simd: S, x: Self) -> Self;

    /// The elements of `x` in `range`, exactly.
    fn widen<S: Simd>(simd: S, x: Slice<'_>, range: Range<usize>, to: &mut [Self]);

    /// Rounds `from` into `to`, to nearest even.
    fn narrow<S: Simd>(simd: S, from: &[Self], to: &mut SliceMut<'_>);
}

impl Number for f32 {
    const LOWEST: Self = f32::NEG_INFINITY;

    #[inline(always)]
    fn exp<S: Simd>(simd: S, x: Self) -> Self {
        math::exp(simd, x)
    }

    #[inline(always)]
    fn widen<S: Simd>(simd: S, x: Slice<'_>, range: Range<usize>, to: &mut [Self]) {
        rows::load(simd, x, range, to);
    }

    #[inline(always)]
    fn narrow<S: Simd>(simd: S, from: &[Self], to: &mut SliceMut<'_>) {
        rows::store(simd, from, to, 0..from.len());
    }
}

impl Number for f64 {
    const LOWEST: Self = f64::NEG_INFINITY;

    #[inline(always)]
    fn exp<S: Simd>(simd: S, x: Self) -> Self {
        math::exp_f64(simd, x)
    }

    #[inline(always)]
    fn widen<S: Simd>(_: S, x: Slice<'_>, range: Range<usize>, to: &mut [Self]) {
        match x {
            Slice::F64(x) => to.copy_from_slice(&x[range]),
            _ => to.fill(0.),
        }
    }

    #[inline(always)]
    fn narrow<S: Simd>(_: S, from: &[Self], to: &mut SliceMut<'_>) {
        if let SliceMut::F64(to) = to {
            <f64 as Store<f64>>::store(from, to);
        }
    }
}

/// `Σ f(x, y)` over pairs, in 16 running sums, which are then added in pairs.
#[inline(always)]
pub(super) fn sum<A: Number>(x: &[A], y: &[A], f: impl Fn(A, A) -> A) -> A {
    let mut lanes = [A::ZERO; LANES];
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in xs.iter().zip(ys) {
        for lane in 0..LANES {
            lanes[lane] = lanes[lane] + f(x[lane], y[lane]);
        }
    }
    for (lane, (&x, &y)) in lanes.iter_mut().zip(x_rest.iter().zip(y_rest)) {
        *lane = *lane + f(x, y);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = lanes[lane] + lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Whether no element is infinite or NaN.
#[inline(always)]
pub(super) fn all_finite<A: Number>(x: &[A]) -> bool {
    x.iter().fold(true, |finite, x| finite & x.is_finite())
}
