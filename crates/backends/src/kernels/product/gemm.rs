//! A product of two matrices of f32 or f64, by the crate `gemm`: the one place where it is called.

#![expect(unsafe_code, reason = "the crate takes addresses and strides")]

use super::matrix::Matrix;
use crate::Real;
use ::gemm::Parallelism;

/// What a product is written over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// Is forgotten.
    Replaced,
    /// Is added to.
    Kept,
}

/// `to = factor · a · b`, or `to += factor · a · b`, one row of `to` after another.
///
/// # Panics
///
/// Where the sizes do not fit together, or a matrix reaches past its slice.
pub(crate) fn matrix_product<T: Real>(
    to: &mut [T],
    before: Before,
    factor: T,
    (a, lhs): (&[T], Matrix),
    (b, rhs): (&[T], Matrix),
    parallelism: Parallelism,
) {
    let (m, k, n) = (lhs.rows, lhs.columns, rhs.columns);
    assert_eq!(rhs.rows, k, "a product");
    assert_eq!(to.len(), m * n, "where a product goes");
    assert!(lhs.span() <= a.len() && rhs.span() <= b.len(), "matrices within their slices");
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
            before == Before::Kept,
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
