//! Products of matrices, on this thread.

use super::number::Number;
pub(super) use crate::kernels::product::Plus;
use crate::kernels::product::{self, Then, matrix_product};
use crate::threads::Threads;

/// A matrix in memory that is read.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a, A> {
    x: &'a [A],
    place: product::Matrix,
}

impl<'a, A> Matrix<'a, A> {
    /// One row after another.
    ///
    /// # Panics
    ///
    /// Where `x` is not of `rows · columns` elements.
    pub(super) fn new(x: &'a [A], rows: usize, columns: usize) -> Self {
        assert_eq!(x.len(), rows * columns, "a matrix of {rows} by {columns}");
        Self { x, place: product::Matrix { rows, columns, row: columns, column: 1 } }
    }

    /// With rows for columns.
    pub(super) fn transposed(self) -> Self {
        Self { place: self.place.transposed(), ..self }
    }
}

/// `to = factor · a · b`, or `to += factor · a · b`, one row of `to` after another.
///
/// # Panics
///
/// Where the sizes do not fit together.
pub(super) fn product<A: Number>(
    to: &mut [A],
    plus: Plus<'_, A>,
    factor: A,
    a: Matrix<'_, A>,
    b: Matrix<'_, A>,
) {
    let then = Then { factor, plus, row: None };
    matrix_product(to, then, (a.x, a.place), (b.x, b.place), Threads::One);
}
