//! Matrices in memory of any strides, and stacks of them.

use crate::buffer::In;

/// A matrix: element `(i, j)` lies `i · row + j · column` elements after the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Matrix {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row: usize,
    pub(crate) column: usize,
}

/// `count` matrices, each `step` elements after the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stack {
    pub(super) count: usize,
    pub(super) step: usize,
    pub(super) each: Matrix,
}

impl Matrix {
    /// The elements from the first to the last, with what lies between them; 0 if there are none.
    pub(super) fn span(self) -> usize {
        let Self { rows, columns, row, column } = self;
        if rows * columns == 0 { 0 } else { (rows - 1) * row + (columns - 1) * column + 1 }
    }

    /// The columns `from..from + len`.
    pub(super) fn columns(self, len: usize) -> Self {
        Self { columns: len, ..self }
    }

    /// Rows for columns.
    pub(crate) fn transposed(self) -> Self {
        let Self { rows, columns, row, column } = self;
        Self { rows: columns, columns: rows, row: column, column: row }
    }
}

impl Stack {
    /// Two or three dimensions as a stack, which has the elements that `In` was checked for.
    pub(super) fn of(x: &In<'_>) -> Option<Self> {
        let matrix = |dims: &[usize], strides: &[usize]| match (dims, strides) {
            (&[rows, columns], &[row, column]) => Some(Matrix { rows, columns, row, column }),
            _ => None,
        };
        let (dims, strides) = (x.dims(), x.strides());
        match dims.len() {
            2 => Some(Self { count: 1, step: 0, each: matrix(dims, strides)? }),
            3 => Some(Self { count: dims[0], step: strides[0], each: matrix(&dims[1..], &strides[1..])? }),
            _ => None,
        }
    }

    /// As [`Matrix::span`].
    pub(super) fn span(&self) -> usize {
        match self.each.span() {
            span if self.count > 0 && span > 0 => (self.count - 1) * self.step + span,
            _ => 0,
        }
    }
}
