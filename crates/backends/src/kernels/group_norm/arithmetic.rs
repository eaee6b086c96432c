//! What groups are computed in: f32, whose sums are f64, and f64, whose sums keep what their additions lose.

use crate::Real;
use crate::buffer::{Slice, SliceMut};
use crate::kernels::norm::wide::Sums;
use crate::simd::Simd;
use crate::simd::rows::{self, SUMS, less, split, sum, sum_pairs};
use std::ops::Range;

/// What sums of f64 are made in.
pub(super) struct Scratch {
    sums: Sums,
    terms: Vec<f64>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self { sums: Sums::new(SUMS), terms: Vec::new() }
    }

    /// `Σ f(x, y)` with what its additions lose.
    #[inline(always)]
    fn total(&mut self, x: &[f64], y: &[f64], f: impl Fn(f64, f64) -> f64) -> f64 {
        self.terms.clear();
        self.terms.extend(x.iter().zip(y).map(|(&x, &y)| f(x, y)));
        self.sums.total(&self.terms)
    }
}

/// The type of the arithmetic. A centre is a number in two parts, the smaller one last.
pub(super) trait Arithmetic: Real {
    /// Elements where they lie, if they are of this type, else in `buffer`.
    fn seen<'a, S: Simd>(simd: S, x: Slice<'a>, range: Range<usize>, buffer: &'a mut [Self]) -> &'a [Self];

    /// Where elements are to be written which [`settle`](Self::settle) leaves in `range` of `to`.
    fn place<'a>(to: &'a mut SliceMut<'_>, range: Range<usize>, buffer: &'a mut [Self]) -> &'a mut [Self];

    /// Rounds what was written to a place that was the buffer's.
    fn settle<S: Simd>(simd: S, buffer: &[Self], to: &mut SliceMut<'_>, range: Range<usize>);

    /// All of a row of parameters.
    fn all<S: Simd>(simd: S, x: Slice<'_>) -> Vec<Self>;

    /// The centre of saved statistics.
    fn centre(saved: [f64; 2]) -> [Self; 2];

    /// The mean as it is saved.
    fn mean(scratch: &mut Scratch, x: &[Self]) -> [f64; 2];

    /// `Σ (x − centre)²`.
    fn squares(scratch: &mut Scratch, x: &[Self], centre: [Self; 2]) -> f64;

    /// `Σ g` and `Σ g · (x − centre)`.
    fn along(scratch: &mut Scratch, g: &[Self], x: &[Self], centre: [Self; 2]) -> [f64; 2];

    /// A factor, unless the type holds fewer of its digits than of other numbers.
    fn factor(factor: f64) -> Option<Self>;
}

impl Arithmetic for f32 {
    #[inline(always)]
    fn seen<'a, S: Simd>(simd: S, x: Slice<'a>, range: Range<usize>, buffer: &'a mut [f32]) -> &'a [f32] {
        rows::seen(simd, x, range, buffer)
    }

    #[inline(always)]
    fn place<'a>(to: &'a mut SliceMut<'_>, range: Range<usize>, buffer: &'a mut [f32]) -> &'a mut [f32] {
        rows::place(to, range, buffer)
    }

    #[inline(always)]
    fn settle<S: Simd>(simd: S, buffer: &[f32], to: &mut SliceMut<'_>, range: Range<usize>) {
        rows::settle(simd, buffer, to, range);
    }

    #[inline(always)]
    fn all<S: Simd>(simd: S, x: Slice<'_>) -> Vec<f32> {
        let mut all = vec![0.; x.len()];
        rows::load(simd, x, 0..x.len(), &mut all);
        all
    }

    #[inline(always)]
    fn centre([mean, _]: [f64; 2]) -> [f32; 2] {
        split(mean).into()
    }

    #[inline(always)]
    fn mean(_: &mut Scratch, x: &[f32]) -> [f64; 2] {
        [sum(x, f64::from) / x.len() as f64, 0.]
    }

    #[inline(always)]
    fn squares(_: &mut Scratch, x: &[f32], centre: [f32; 2]) -> f64 {
        sum(x, |x| {
            let moved = f64::from(less(x, centre));
            moved * moved
        })
    }

    #[inline(always)]
    fn along(_: &mut Scratch, g: &[f32], x: &[f32], centre: [f32; 2]) -> [f64; 2] {
        // In f64, whose products of f32 neither overflow nor vanish.
        let along = sum_pairs(g, x, |g, x| f64::from(g) * f64::from(less(x, centre)));
        [sum(g, f64::from), along]
    }

    #[inline(always)]
    fn factor(factor: f64) -> Option<f32> {
        Some(factor as f32).filter(|factor| factor.is_normal())
    }
}

impl Arithmetic for f64 {
    #[inline(always)]
    fn seen<'a, S: Simd>(_: S, x: Slice<'a>, range: Range<usize>, buffer: &'a mut [f64]) -> &'a [f64] {
        match x {
            Slice::F64(x) => &x[range],
            _ => buffer,
        }
    }

    #[inline(always)]
    fn place<'a>(to: &'a mut SliceMut<'_>, range: Range<usize>, buffer: &'a mut [f64]) -> &'a mut [f64] {
        match to {
            SliceMut::F64(to) => &mut to[range],
            _ => buffer,
        }
    }

    #[inline(always)]
    fn settle<S: Simd>(_: S, _: &[f64], _: &mut SliceMut<'_>, _: Range<usize>) {}

    #[inline(always)]
    fn all<S: Simd>(_: S, x: Slice<'_>) -> Vec<f64> {
        rows::to_f64(x)
    }

    #[inline(always)]
    fn centre(saved: [f64; 2]) -> [f64; 2] {
        saved
    }

    #[inline(always)]
    fn mean(scratch: &mut Scratch, x: &[f64]) -> [f64; 2] {
        let high = scratch.sums.mean(x);
        let low = scratch.total(x, x, |x, _| x - high) / x.len() as f64;
        [high, low]
    }

    #[inline(always)]
    fn squares(scratch: &mut Scratch, x: &[f64], centre: [f64; 2]) -> f64 {
        scratch.total(x, x, |x, _| less(x, centre) * less(x, centre))
    }

    #[inline(always)]
    fn along(scratch: &mut Scratch, g: &[f64], x: &[f64], centre: [f64; 2]) -> [f64; 2] {
        let along = scratch.total(g, x, |g, x| g * less(x, centre));
        [scratch.sums.total(g), along]
    }

    #[inline(always)]
    fn factor(factor: f64) -> Option<f64> {
        Some(factor)
    }
}
