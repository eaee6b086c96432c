//! Products of matrices, on this thread.

#![expect(unsafe_code, reason = "the crate that multiplies takes pointers and strides")]

use super::number::Number;

/// A matrix in memory that is read.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a, A> {
    x: &'a [A],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, A> Matrix<'a, A> {
    /// One row after another.
    ///
    /// # Panics
    ///
    /// Where `x` is not of `rows · columns` elements.
    pub(super) fn new(x: &'a [A], rows: usize, columns: usize) -> Self {
        assert_eq!(x.len(), rows * columns, "a matrix of {rows} by {columns}");
        Self { x, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// With rows for columns.
    pub(super) fn transposed(self) -> Self {
        let Self { x, rows, columns, row_stride, column_stride } = self;
        Self { x, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
    }
}

/// What a product is written over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// Is forgotten.
    Replaced,
    /// Is added to.
    Kept,
}

/// `to = factor · a · b`, or `to += factor · a · b`, one row of `to` after another.
///
/// # Panics
///
/// Where the sizes do not fit together.
pub(super) fn product<A: Number>(
    to: &mut [A],
    before: Before,
    factor: A,
    a: Matrix<'_, A>,
    b: Matrix<'_, A>,
) {
    assert_eq!(a.columns, b.rows, "a product");
    assert_eq!(to.len(), a.rows * b.columns, "where a product goes");
    let (m, n, k) = (a.rows, b.columns, a.columns);
    // SAFETY: `to` has m · n elements and is borrowed alone. `a` and `b` are of as many elements as they have indices, which
    // `Matrix::new` has checked, so that their strides lead to elements of them only. All elements are initialized. The
    // strides are at most lengths of slices, which fit into isize.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            to.as_mut_ptr(),
            1,
            n as isize,
            before == Before::Kept,
            a.x.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.x.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            A::ONE,
            factor,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
