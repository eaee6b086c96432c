//! Sums along one axis of a block of numbers `[outer, reduced, inner]`: of the values, or of their squares.
//!
//! `out[o, i] = Σ_r f(x[o, r, i])`. Terms of f16, bf16 and f32 are exact in f64 (squares, too) and are added in f64; those of
//! f64 are added with what each addition loses beside the sum. [`sum`] rounds nothing to a narrower type, [`sum_of`] once
//! (to 16 bits by way of f32). Over nothing the sum is 0; infinities and NaN come out as plain addition has them.
//!
//! Contract: with `n` terms `t`, off by at most `n · 2⁻⁵³ · Σ|t|` for the narrower types, and by `2⁻⁵² · |Σt| + n² · 2⁻¹⁰⁶ · Σ|t|`
//! for f64. Chunks have a fixed size, so the result does not depend on the number of threads; the devices differ in the order.
//!
//! # Source
//!
//! Neumaier, Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen, 1974, with Knuth's branch-free sum.

#[cfg(feature = "cuda")]
mod cuda;
mod scalar;
#[cfg(feature = "candle")]
mod tensors;

pub use scalar::sum_scalar;
#[cfg(feature = "candle")]
pub use tensors::sum_of;

use crate::simd::convert::Stored;
use crate::simd::{Isa, Simd, Work};
use crate::{Error, Floats, Real, Result};
use rayon::prelude::*;
use std::marker::PhantomData;

/// What is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// The values.
    Value,
    /// Their squares.
    Square,
}

impl Term {
    #[inline(always)]
    fn of(self, x: f64) -> f64 {
        match self {
            Self::Value => x,
            Self::Square => x * x,
        }
    }
}

/// How a buffer is seen: the middle axis is summed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axes {
    /// What stands before the axis.
    pub outer: usize,
    /// The length of the axis.
    pub reduced: usize,
    /// What stands after it.
    pub inner: usize,
}

impl Axes {
    fn len(self) -> Option<usize> {
        self.outer.checked_mul(self.reduced)?.checked_mul(self.inner)
    }

    fn check(self, len: usize) -> Result<()> {
        match self.len() {
            Some(expected) if expected == len => Ok(()),
            expected => Err(Error::LengthMismatch {
                op: "sum",
                argument: "the buffer",
                expected: expected.unwrap_or(usize::MAX),
                got: len,
            }),
        }
    }
}

/// Terms per task along the reduced axis where it is contiguous.
const CHUNK: usize = 16 * 1024;
/// Rows per task, and columns, where it is not.
const ROWS: usize = 1024;
const COLUMNS: usize = 1024;
/// Elements that are worth another thread.
const PARALLEL: usize = 32 * 1024;
/// Independent sums along a contiguous axis, for the vector unit.
const LANES: usize = 8;
/// Elements widened at once, so that they stay in the first-level cache.
const BLOCK: usize = 512;

/// The sums, `[outer, inner]`.
///
/// # Errors
///
/// [`Error::LengthMismatch`] where the axes do not multiply to the buffer's length.
pub fn sum(x: Floats<'_>, axes: Axes, term: Term) -> Result<Vec<f64>> {
    axes.check(x.len())?;
    Ok(match x {
        Floats::F16(x) => sums::<_, f32, Plain>(x, axes, term),
        Floats::Bf16(x) => sums::<_, f32, Plain>(x, axes, term),
        Floats::F32(x) => sums::<_, f32, Plain>(x, axes, term),
        Floats::F64(x) => sums::<_, f64, Compensated>(x, axes, term),
    })
}

/// A sum in progress.
pub(crate) trait Accumulator: Copy + Default + Send {
    fn add(&mut self, x: f64);
    fn merge(&mut self, other: Self);
    fn value(self) -> f64;
}

/// Terms that are exact in f64 lose nothing that matters.
#[derive(Clone, Copy, Default)]
pub(crate) struct Plain(f64);

impl Accumulator for Plain {
    #[inline(always)]
    fn add(&mut self, x: f64) {
        self.0 += x;
    }

    fn merge(&mut self, other: Self) {
        self.0 += other.0;
    }

    fn value(self) -> f64 {
        self.0
    }
}

/// A sum and what its additions have lost.
#[derive(Clone, Copy, Default)]
pub(crate) struct Compensated {
    sum: f64,
    lost: f64,
}

impl Accumulator for Compensated {
    #[inline(always)]
    fn add(&mut self, x: f64) {
        let sum = self.sum + x;
        let kept = sum - self.sum;
        self.lost += (self.sum - (sum - kept)) + (x - kept);
        self.sum = sum;
    }

    fn merge(&mut self, other: Self) {
        self.add(other.sum);
        self.lost += other.lost;
    }

    /// What an infinite sum has lost is NaN, and means nothing.
    fn value(self) -> f64 {
        if self.sum.is_finite() { self.sum + self.lost } else { self.sum }
    }
}

fn sums<T: Stored<W>, W: Real, A: Accumulator>(x: &[T], axes: Axes, term: Term) -> Vec<f64> {
    let Axes { outer, reduced, inner } = axes;
    if outer * inner == 0 || reduced == 0 {
        return vec![0.; outer * inner];
    }
    let totals: Vec<A> = if inner == 1 {
        along_rows::<T, W, A>(x, reduced, term)
    } else {
        let (slab, columns) = (reduced * inner, |slab: &[T]| down_columns::<T, W, A>(slab, inner, term));
        if x.len() >= PARALLEL && slab < PARALLEL {
            let slabs = in_order(x.chunks_exact(slab).collect(), PARALLEL.div_ceil(2 * slab), &columns);
            slabs.into_iter().flatten().collect()
        } else {
            x.chunks_exact(slab).flat_map(columns).collect()
        }
    };
    totals.into_iter().map(A::value).collect()
}

/// The sum of each run of `reduced` elements.
fn along_rows<T: Stored<W>, W: Real, A: Accumulator>(x: &[T], reduced: usize, term: Term) -> Vec<A> {
    let row = |row: &[T]| merged(row.chunks(CHUNK).map(|chunk| run::<T, W, A>(chunk, term)));
    if x.len() < PARALLEL {
        return x.chunks_exact(reduced).map(row).collect();
    }
    if reduced <= CHUNK {
        return in_order(x.chunks_exact(reduced).collect(), PARALLEL.div_ceil(2 * reduced), &row);
    }
    let chunked = |row: &[T]| {
        merged(in_order(row.chunks(CHUNK).collect(), 1, &|chunk| run::<T, W, A>(chunk, term)).into_iter())
    };
    x.chunks_exact(reduced).map(chunked).collect()
}

fn merged<A: Accumulator>(parts: impl Iterator<Item = A>) -> A {
    parts.fold(A::default(), |mut all, part| {
        all.merge(part);
        all
    })
}

/// The sum of one chunk.
fn run<T: Stored<W>, W: Real, A: Accumulator>(chunk: &[T], term: Term) -> A {
    Isa::best().run(Run { chunk, term, of: PhantomData::<(W, A)> })
}

struct Run<'a, T, W, A> {
    chunk: &'a [T],
    term: Term,
    of: PhantomData<(W, A)>,
}

impl<T: Stored<W>, W: Real, A: Accumulator> Work for Run<'_, T, W, A> {
    type Output = A;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> A {
        let mut lanes = [A::default(); LANES];
        let mut buffer = [W::ZERO; BLOCK];
        for block in self.chunk.chunks(BLOCK) {
            let values = &mut buffer[..block.len()];
            T::read(simd, block, values);
            let (groups, rest) = values.as_chunks::<LANES>();
            for group in groups {
                for (lane, &x) in lanes.iter_mut().zip(group) {
                    lane.add(self.term.of(x.to_f64()));
                }
            }
            for (lane, &x) in lanes.iter_mut().zip(rest) {
                lane.add(self.term.of(x.to_f64()));
            }
        }
        merged(lanes.into_iter())
    }
}

/// The sums of some columns, those from `from` on, over rows of `inner` elements.
struct Tile<'a, T, W, A> {
    rows: &'a [T],
    inner: usize,
    from: usize,
    term: Term,
    of: PhantomData<(W, A)>,
}

impl<T: Stored<W>, W: Real, A: Accumulator> Work for Tile<'_, T, W, A> {
    type Output = Vec<A>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<A> {
        let width = COLUMNS.min(self.inner - self.from);
        let mut totals = vec![A::default(); width];
        let mut buffer = [W::ZERO; COLUMNS];
        for row in self.rows.chunks_exact(self.inner) {
            let row = &row[self.from..self.from + width];
            let values = T::seen(simd, row, &mut buffer[..width]);
            for (total, &x) in totals.iter_mut().zip(values) {
                total.add(self.term.of(x.to_f64()));
            }
        }
        totals
    }
}

/// The sum of each column of rows of `inner` elements.
fn down_columns<T: Stored<W>, W: Real, A: Accumulator>(slab: &[T], inner: usize, term: Term) -> Vec<A> {
    // One column block of one chunk of rows.
    let tile = |rows: &[T], from: usize| {
        Isa::best().run(Tile { rows, inner, from, term, of: PhantomData::<(W, A)> })
    };
    let chunk =
        |rows: &[T]| -> Vec<A> { (0..inner).step_by(COLUMNS).flat_map(|from| tile(rows, from)).collect() };
    if slab.len() < PARALLEL {
        return slab.chunks(ROWS * inner).map(chunk).reduce(add_rows).unwrap_or_default();
    }
    if slab.len() <= ROWS * inner {
        let blocks = in_order((0..inner).step_by(COLUMNS).collect(), 1, &|from| tile(slab, from));
        return blocks.into_iter().flatten().collect();
    }
    let parts = in_order(slab.chunks(ROWS * inner).collect(), 1, &chunk);
    parts.into_iter().reduce(add_rows).unwrap_or_default()
}

/// `work` for each task, at least so many of which are worth a thread. Not generic over the work: rayon is compiled for each of its.
fn in_order<T: Copy + Sync, R: Send>(tasks: Vec<T>, least: usize, work: &(dyn Fn(T) -> R + Sync)) -> Vec<R> {
    tasks.par_iter().with_min_len(least).map(|&task| work(task)).collect()
}

fn add_rows<A: Accumulator>(mut all: Vec<A>, row: Vec<A>) -> Vec<A> {
    all.iter_mut().zip(row).for_each(|(total, part)| total.merge(part));
    all
}

#[cfg(test)]
mod tests;
