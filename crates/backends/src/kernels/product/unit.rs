//! What multiplies operands: panels of numbers or of pairs, or Intel's tiles.

use super::Engine;
use super::blocked::{self, DEPTH, Lies, Operand, Source, Strided, Term, Then};
use super::matrix::Matrix;
use crate::simd::Isa;
use crate::simd::convert::Stored;
#[cfg(target_arch = "x86_64")]
use crate::simd::lanes::Pair;
use crate::threads::Threads;
use half::bf16;

/// What multiplies operands of elements `E`.
pub(crate) trait Multiply<E: Term>: Copy + Send + Sync {
    /// Numbers of a lane whose sums are complete before they are written. Of more, an output of sums holds them meanwhile.
    fn most_numbers(self) -> usize;

    /// Writes the products of each lane of `a` with each of `b`, a row for each of `a`, as `then` says.
    ///
    /// # Panics
    ///
    /// Where the sizes do not fit together, or there are more than [`most_numbers`](Self::most_numbers) and `out` is of another type than
    /// the sums are.
    fn multiply<O: Stored<E::Sum>>(
        self,
        a: impl Operand<E>,
        b: impl Operand<E>,
        then: Then<'_, E::Sum, O>,
        out: (&mut [O], Lies),
        threads: Threads,
    );
}

/// Panels, by the instructions of a [`Term`].
#[derive(Clone, Copy)]
pub(crate) struct Panels<U>(pub(crate) U);

impl<E: Term> Multiply<E> for Panels<E::Unit> {
    fn most_numbers(self) -> usize {
        DEPTH * E::NUMBERS
    }

    fn multiply<O: Stored<E::Sum>>(
        self,
        a: impl Operand<E>,
        b: impl Operand<E>,
        then: Then<'_, E::Sum, O>,
        out: (&mut [O], Lies),
        threads: Threads,
    ) {
        blocked::multiply(self.0, a, b, then, out, threads);
    }
}

/// [`Multiply`] of two matrices in memory, to one row after another.
///
/// # Panics
///
/// As there, and where a matrix reaches past its slice.
pub(crate) fn multiply_matrices<E: Term, X: Source<E>, O: Stored<E::Sum>>(
    by: impl Multiply<E>,
    (a, lhs): (&[X], Matrix),
    (b, rhs): (&[X], Matrix),
    then: Then<'_, E::Sum, O>,
    out: &mut [O],
    threads: Threads,
) {
    assert!(then.row.is_none_or(|row| row.len() == rhs.columns), "a row of a product");
    assert_eq!(out.len(), lhs.rows * rhs.columns, "where a product goes");
    let (a, b) = (Strided::new(a, lhs), Strided::new(b, rhs.transposed()));
    by.multiply(a, b, then, (out, Lies::by_rows(rhs.columns)), threads);
}

/// What is done with numbers of bf16 by whatever multiplies them.
pub(crate) trait OfBf16 {
    /// What comes of it.
    type Output;

    /// Does it.
    fn run<E: Term<Sum = f32>>(self, by: impl Multiply<E>) -> Self::Output
    where
        bf16: Source<E>;
}

/// Does `work` by an engine, or in f32 where this machine does not have it.
pub(crate) fn by_engine<W: OfBf16>(engine: Engine, work: W) -> W::Output {
    match engine {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        Engine::Tiles if let Some(amx) = super::amx::Amx::detect() => work.run::<Pair>(amx),
        #[cfg(target_arch = "x86_64")]
        Engine::Pairs if let Some(pairs) = crate::simd::Pairs::detect() => work.run::<Pair>(Panels(pairs)),
        _ => work.run::<f32>(Panels(Isa::best())),
    }
}
