//! A product of two matrices of f32 or f64, by whichever was measured to be faster: [`multiply_matrices`] of large ones with AVX2 or AVX-512, and for
//! whatever else the crate `gemm`. The one place where the crate is called.

#![expect(unsafe_code, reason = "the crate takes addresses and strides")]

use super::blocked::{Packed, Plus, Source, Term, Then};
use super::unit::{Panels, multiply_matrices};
use super::{Matrix, RUN};
use crate::simd::Isa;
use crate::simd::rows::PARALLEL;
use crate::threads::Threads;
use ::gemm::Parallelism;
use rayon::prelude::*;

/// Rows and columns for which it pays that each element of the operands is packed, terms for which it pays that sums stay in the
/// cache, and multiplications.
const LARGE: (usize, usize, usize) = (192, 256, 1 << 26);

/// Bytes of the vectors with which that was measured to be so, AVX2's and those of AVX-512, and of longer ones.
const VECTORS: usize = 32;

/// An operand: a matrix in memory.
pub(crate) type Operand<'a, T> = (&'a [T], Matrix);

/// A type that both multiply.
pub(crate) trait Float: Packed + Term<Sum = Self, Unit = Isa> + Source<Self> {}

impl Float for f32 {}
impl Float for f64 {}

/// Writes `a · b` to `out`, one row after another, as `then` says.
///
/// # Panics
///
/// Where the sizes do not fit together, or a matrix reaches past its slice.
pub(crate) fn matrix_product<T: Float>(
    out: &mut [T],
    then: Then<'_, T, T>,
    a: Operand<'_, T>,
    b: Operand<'_, T>,
    threads: Threads,
) {
    let (m, k, n) = (a.1.rows, a.1.columns, b.1.columns);
    let large = m.min(n) >= LARGE.0 && k >= LARGE.1 && m * n >= LARGE.2 / k;
    let isa = Isa::best();
    if large && isa.bytes() >= VECTORS {
        multiply_matrices::<T, T, T>(Panels(isa), a, b, then, out, threads);
    } else {
        by_the_crate(out, then, a, b, threads);
    }
}

/// The same in runs of [`RUN`] terms.
pub(super) fn by_the_crate<T: Float>(
    out: &mut [T],
    then: Then<'_, T, T>,
    (a, lhs): Operand<'_, T>,
    (b, rhs): Operand<'_, T>,
    threads: Threads,
) {
    // To a vector the crate adds each term, and to a matrix the sum of them.
    let is_vector = lhs.rows == 1 || rhs.columns == 1;
    let mut part = Vec::new();
    let plus = match then.plus {
        Plus::Matrix(matrix) => {
            out.copy_from_slice(matrix);
            Plus::Output
        }
        plus => plus,
    };
    for first in (0..lhs.columns).step_by(RUN) {
        let len = RUN.min(lhs.columns - first);
        let a = (&a[first * lhs.column..], lhs.columns(len));
        let b = (&b[first * rhs.row..], Matrix { rows: len, ..rhs });
        if first == 0 {
            run(out, plus, then.factor, a, b, threads);
        } else if is_vector {
            part.resize(out.len(), T::ZERO);
            run(&mut part, Plus::Nothing, then.factor, a, b, threads);
            out.iter_mut().zip(&part).for_each(|(out, &part)| *out = *out + part);
        } else {
            run(out, Plus::Output, then.factor, a, b, threads);
        }
    }
    if lhs.columns == 0 && matches!(plus, Plus::Nothing) {
        out.fill(T::ZERO);
    }
    if let Some(row) = then.row {
        let add = |out: &mut [T]| out.iter_mut().zip(row).for_each(|(out, &x)| *out = *out + x);
        let columns = rhs.columns.max(1);
        match threads {
            Threads::All if out.len() > PARALLEL => {
                out.par_chunks_exact_mut(columns).with_min_len(16).for_each(add)
            }
            _ => out.chunks_exact_mut(columns).for_each(add),
        }
    }
}

/// `to = factor · a · b`, or `to += factor · a · b`.
fn run<T: Float>(
    to: &mut [T],
    plus: Plus<'_, T>,
    factor: T,
    (a, lhs): Operand<'_, T>,
    (b, rhs): Operand<'_, T>,
    threads: Threads,
) {
    let (m, k, n) = (lhs.rows, lhs.columns, rhs.columns);
    assert_eq!(rhs.rows, k, "a product");
    assert_eq!(to.len(), m * n, "where a product goes");
    assert!(lhs.span() <= a.len() && rhs.span() <= b.len(), "matrices within their slices");
    let parallelism = match threads {
        Threads::All => Parallelism::Rayon(0),
        Threads::One => Parallelism::None,
    };
    // SAFETY: by the assertions above every index within the matrices is within the slices, of which `to` is borrowed alone.
    // The strides are at most lengths of slices, which fit into isize, where an index of more than 0 exists.
    unsafe {
        ::gemm::gemm(
            m,
            n,
            k,
            to.as_mut_ptr(),
            1,
            n as isize,
            matches!(plus, Plus::Output),
            a.as_ptr(),
            lhs.column as isize,
            lhs.row as isize,
            b.as_ptr(),
            rhs.column as isize,
            rhs.row as isize,
            T::ONE,
            factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}
