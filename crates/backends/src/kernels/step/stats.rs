//! What a gradient says about a step before it is taken: is it finite, how large is it, how much of it underflowed.
//!
//! For every element `g` of the gradient as it is stored, and `x = g * inv_scale` in f32 (f64 for an f64 gradient):
//! `non_finite` counts the `x` that are infinite or NaN, `sum_squares` is the sum of `x * x` in f64, `zeros` counts the
//! `g` that are ±0, and `subnormal` the nonzero `g` below f16's smallest normal number, 2^-14.
//!
//! Testing `x` and not `g` also catches a finite gradient that a tiny scale would blow up to infinity.
//!
//! Contract: the counts are exact. `sum_squares` is summed in chunks of fixed length, in order, so it does not depend on
//! the number of threads; it is within `len * 2^-53` of the exact sum, relatively.

use crate::simd::rows::{SUMS, folded};
use crate::simd::{Isa, Simd, Work};
use crate::{Element, Floats, Real};
use rayon::prelude::*;

/// Counts and sums over one gradient.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GradStats {
    /// Elements looked at.
    pub len: u64,
    /// Elements that are infinite or NaN once unscaled.
    pub non_finite: u64,
    /// Elements that are zero.
    pub zeros: u64,
    /// Elements that f16 can only hold as a subnormal number, at the scale that they have now.
    pub subnormal: u64,
    /// The sum of squares of the unscaled elements.
    pub sum_squares: f64,
}

impl GradStats {
    /// The statistics of two gradients taken together.
    pub fn merge(self, other: Self) -> Self {
        Self {
            len: self.len + other.len,
            non_finite: self.non_finite + other.non_finite,
            zeros: self.zeros + other.zeros,
            subnormal: self.subnormal + other.subnormal,
            sum_squares: self.sum_squares + other.sum_squares,
        }
    }

    /// Whether any element was infinite or NaN.
    pub fn found_inf(&self) -> bool {
        self.non_finite > 0
    }
}

/// Elements per chunk: a unit of parallel work, and of summation.
pub(super) const CHUNK: usize = 16 * 1024;
/// Elements converted at once, so that they stay in the first-level cache.
pub(super) const BLOCK: usize = 512;
/// Below this magnitude f16 is subnormal.
pub(super) const F16_MIN_NORMAL: f64 = 6.103_515_625e-5;

/// Looks at every gradient, in one parallel pass, and gives each its statistics.
///
/// # Units
///
/// The gradients carry the loss scale; `inv_scale` takes it out. Pass 1 for gradients that carry none.
pub fn grad_stats(grads: &[Floats<'_>], inv_scale: f32) -> Vec<GradStats> {
    grads.par_iter().map(|&grad| one(grad, inv_scale)).collect()
}

fn one(grad: Floats<'_>, inv_scale: f32) -> GradStats {
    match grad {
        Floats::F64(x) => chunked(x, |chunk| chunk_stats(chunk, f64::from(inv_scale))),
        Floats::F32(x) => chunked(x, |chunk| chunk_stats(chunk, inv_scale)),
        Floats::F16(x) => chunked(x, |chunk| chunk_stats(chunk, inv_scale)),
        Floats::Bf16(x) => chunked(x, |chunk| chunk_stats(chunk, inv_scale)),
    }
}

fn chunked<T: Sync>(x: &[T], stats: impl Fn(&[T]) -> GradStats + Send + Sync) -> GradStats {
    if x.len() <= CHUNK {
        return stats(x);
    }
    // Collected before it is merged, so that the order of the sum is that of the memory.
    let parts: Vec<GradStats> = x.par_chunks(CHUNK).map(stats).collect();
    parts.into_iter().fold(GradStats::default(), GradStats::merge)
}

fn chunk_stats<T: Element, A: Real>(chunk: &[T], inv_scale: A) -> GradStats {
    Isa::best().run(Look(chunk, inv_scale))
}

struct Look<'a, T, A>(&'a [T], A);

impl<T: Element, A: Real> Work for Look<'_, T, A> {
    type Output = GradStats;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> GradStats {
        let Self(chunk, inv_scale) = self;
        let mut buffer = [A::ZERO; BLOCK];
        let mut sums = [0f64; SUMS];
        let mut stats = GradStats { len: chunk.len() as u64, ..GradStats::default() };
        for block in chunk.chunks(BLOCK) {
            let values = &mut buffer[..block.len()];
            A::load(T::floats(block), values);
            let (non_finite, zeros, subnormal) = block_counts(values, inv_scale);
            stats.non_finite += u64::from(non_finite);
            stats.zeros += u64::from(zeros);
            stats.subnormal += u64::from(subnormal);
            add_squares(values, inv_scale, &mut sums);
        }
        stats.sum_squares = folded(&sums);
        stats
    }
}

#[inline(always)]
fn block_counts<A: Real>(values: &[A], inv_scale: A) -> (u32, u32, u32) {
    let min_normal = A::from_f64(F16_MIN_NORMAL);
    let (mut non_finite, mut zeros, mut small) = (0, 0, 0);
    for &g in values {
        non_finite += u32::from(!(g * inv_scale).is_finite());
        zeros += u32::from(g == A::ZERO);
        small += u32::from(g.abs() < min_normal);
    }
    (non_finite, zeros, small - zeros)
}

#[inline(always)]
fn add_squares<A: Real>(values: &[A], inv_scale: A, sums: &mut [f64; SUMS]) {
    for group in values.chunks(SUMS) {
        for (sum, &g) in sums.iter_mut().zip(group) {
            let x = (g * inv_scale).to_f64();
            *sum += x * x;
        }
    }
}
