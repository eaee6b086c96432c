//! Where sums go: what is done to one before it is rounded and written.

#![expect(unsafe_code, reason = "tasks write blocks of one output")]

use super::Packed;
use crate::simd::Simd;
use crate::simd::convert::Stored;
use crate::simd::turn::Turn;
use std::marker::PhantomData;
use std::ops::Range;

/// Columns that become rows at a time.
const SQUARE: usize = 4;
/// Sums that are finished together.
const GROUP: usize = 16;
/// Sums that are written at a time, at most: the columns of a tile, or its rows where they become columns.
const LINE: usize = 32;

/// What becomes of a sum: it is multiplied by a factor, has numbers added, and is rounded.
#[derive(Clone, Copy)]
pub(crate) struct Then<'a, T, O> {
    /// It is multiplied by this.
    pub(crate) factor: T,
    /// The element of its column is added.
    pub(crate) row: Option<&'a [T]>,
    /// What else is added.
    pub(crate) plus: Plus<'a, O>,
}

/// A matrix that is added to a product.
#[derive(Clone, Copy)]
pub(crate) enum Plus<'a, O> {
    Nothing,
    /// What the output holds.
    Output,
    /// A matrix of the output's size, which lies as it does.
    Matrix(&'a [O]),
}

impl<T: Packed, O> Then<'_, T, O> {
    /// The sum and no more.
    pub(crate) const WRITTEN: Self = Self { factor: T::ONE, row: None, plus: Plus::Nothing };
}

/// How an output lies: a row after another, each in pieces of so many columns that are so far apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lies {
    /// From a row to the next.
    pub(crate) pitch: usize,
    /// Columns that lie side by side.
    pub(crate) piece: usize,
    /// From a piece's first column to the next one's.
    pub(crate) apart: usize,
}

impl Lies {
    /// One row after another.
    pub(crate) fn by_rows(columns: usize) -> Self {
        Self { pitch: columns, piece: columns, apart: columns }
    }

    /// Where a column of the first row lies, and how many of the `most` from there on lie side by side.
    #[inline(always)]
    fn place(self, column: usize, most: usize) -> (usize, usize) {
        let (piece, within) = (column / self.piece, column % self.piece);
        (piece * self.apart + within, most.min(self.piece - within))
    }
}

/// An output of which tasks write blocks that do not meet.
pub(in crate::kernels::product) struct Output<'a, O> {
    first: *mut O,
    len: usize,
    lies: Lies,
    /// Whether tiles hold its columns as rows.
    turned: Turned,
    borrowed: PhantomData<&'a mut [O]>,
}

/// Which way tiles lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernels::product) enum Turned {
    /// As the output.
    Not,
    /// A row of a tile goes to a column.
    Over,
}

// SAFETY: it is a slice of `O` that is borrowed for it alone; who writes to it promises to write where nobody else does.
unsafe impl<O: Send> Sync for Output<'_, O> {}

impl<'a, O> Output<'a, O> {
    /// # Panics
    ///
    /// Where so many rows and columns would meet.
    pub(in crate::kernels::product) fn new(
        out: &'a mut [O],
        lies: Lies,
        [rows, columns]: [usize; 2],
        turned: Turned,
    ) -> Self {
        let Lies { pitch, piece, apart } = lies;
        assert!(rows < 2 || piece.min(columns) <= pitch, "rows that do not meet");
        let span = rows.saturating_sub(1) * pitch + piece;
        assert!(columns <= piece || span <= apart, "pieces that do not meet");
        Self { first: out.as_mut_ptr(), len: out.len(), lies, turned, borrowed: PhantomData }
    }

    /// `len` elements from one on.
    ///
    /// # Safety
    ///
    /// No other task has any of them.
    #[expect(clippy::mut_from_ref, reason = "what is borrowed from it does not meet, by the caller's word")]
    unsafe fn piece(&self, at: usize, len: usize) -> &mut [O] {
        assert!(at + len <= self.len, "a piece of the output");
        // SAFETY: it is within the slice, and nobody else's.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(at), len) }
    }
}

/// A block of the output to which sums go from their registers, and what is added to them.
#[derive(Clone, Copy)]
pub(super) struct Direct<T> {
    /// Its first element.
    pub(super) to: *mut T,
    /// From a row to the next, of the matrix too.
    pub(super) pitch: usize,
    pub(super) row: Option<*const T>,
    pub(super) matrix: Option<*const T>,
}

impl<T> Direct<T> {
    /// Of the rows from one on.
    #[inline(always)]
    pub(super) fn from(self, row: usize) -> Self {
        let further = row * self.pitch;
        let matrix = self.matrix.map(|x| x.wrapping_add(further));
        Self { to: self.to.wrapping_add(further), matrix, ..self }
    }
}

/// The writing of tiles, each to a block of the output.
#[derive(Clone, Copy)]
pub(crate) struct Finish<'a, T, O> {
    pub(in crate::kernels::product) out: &'a Output<'a, O>,
    pub(in crate::kernels::product) then: Then<'a, T, O>,
}

impl<T: Packed, O: Stored<T>> Finish<'_, T, O> {
    /// The block of `rows` by `columns` from a row and a column on, where sums can be written as they are: their type is the output's, and
    /// its rows are theirs.
    #[inline(always)]
    pub(super) fn direct(&self, at: [usize; 2], [rows, columns]: [usize; 2]) -> Option<Direct<T>> {
        let Self { out, then } = self;
        let (first, there) = out.lies.place(at[1], columns);
        let as_they_are = O::in_place(&mut []).is_some() && then.factor == T::ONE;
        if !as_they_are || out.turned != Turned::Not || there < columns || rows == 0 {
            return None;
        }
        let pitch = out.lies.pitch;
        let (first, span) = (first + at[0] * pitch, (rows - 1) * pitch + columns);
        assert!(first + span <= out.len, "a block of the output");
        let to = out.first.wrapping_add(first).cast::<T>();
        let matrix = match then.plus {
            Plus::Nothing => None,
            Plus::Output => Some(to.cast_const()),
            Plus::Matrix(matrix) => Some(matrix[first..][..span].as_ptr().cast()),
        };
        Some(Direct { to, pitch, row: then.row.map(|row| row[at[1]..][..columns].as_ptr()), matrix })
    }

    /// Writes `rows` by `columns` sums of a tile, whose rows are `pitch` apart, from a row and a column on.
    #[inline(always)]
    pub(in crate::kernels::product) fn tile<S: Simd>(
        &self,
        simd: S,
        (sums, pitch): (&mut [T], usize),
        at: [usize; 2],
        [rows, columns]: [usize; 2],
    ) {
        match self.out.turned {
            Turned::Not => {
                let mut done = 0;
                while done < columns {
                    let (first, there) = self.out.lies.place(at[1] + done, columns - done);
                    for row in 0..rows {
                        let sums = &mut sums[row * pitch + done..][..there];
                        self.write(simd, sums, first + (at[0] + row) * self.out.lies.pitch, at[1] + done);
                    }
                    done += there;
                }
            }
            Turned::Over => {
                let mut done = 0;
                while done < rows {
                    let (to, there) = self.out.lies.place(at[0] + done, LINE.min(rows - done));
                    for first in (0..columns).step_by(SQUARE) {
                        let mut turned = [[T::ZERO; LINE]; SQUARE];
                        turn((sums, pitch), done..done + there, first, &mut turned);
                        for (column, line) in (at[1] + first..at[1] + columns).zip(&mut turned) {
                            let to = to + column * self.out.lies.pitch;
                            self.write(simd, &mut line[..there], to, at[0] + done);
                        }
                    }
                    done += there;
                }
            }
        }
    }

    /// Writes sums of the columns from `column` on to the elements from `at` on.
    #[inline(always)]
    fn write<S: Simd>(&self, simd: S, sums: &mut [T], at: usize, column: usize) {
        // SAFETY: a block is one task's.
        let to = unsafe { self.out.piece(at, sums.len()) };
        self.then.write(simd, sums, (at, column), to);
    }
}

impl<T: Packed, O: Stored<T>> Then<'_, T, O> {
    /// Writes sums of the columns from `column` on to `to`, the elements of the output from `at` on.
    #[inline(always)]
    fn write<S: Simd>(&self, simd: S, sums: &mut [T], (at, column): (usize, usize), to: &mut [O]) {
        let row = self.row.map(|row| &row[column..][..to.len()]);
        let matrix = match self.plus {
            Plus::Matrix(matrix) => Some(&matrix[at..][..to.len()]),
            _ => None,
        };
        let (groups, rest) = to.as_chunks_mut::<GROUP>();
        let done = groups.len() * GROUP;
        for (i, to) in groups.iter_mut().enumerate() {
            let of = i * GROUP..(i + 1) * GROUP;
            let (row, matrix) = (row.map(|x| &x[of.clone()]), matrix.map(|x| &x[of.clone()]));
            // Read whole before any is written: vectors, wherever the operands lie.
            let mut group = [T::ZERO; GROUP];
            group.copy_from_slice(&sums[of]);
            self.finish(simd, &mut group, row, matrix, to);
        }
        if !rest.is_empty() {
            let (row, matrix) = (row.map(|x| &x[done..]), matrix.map(|x| &x[done..]));
            self.finish(simd, &mut sums[done..], row, matrix, rest);
        }
    }

    /// At most [`GROUP`].
    #[inline(always)]
    fn finish<S: Simd>(
        &self,
        simd: S,
        sums: &mut [T],
        row: Option<&[T]>,
        matrix: Option<&[O]>,
        to: &mut [O],
    ) {
        if self.factor != T::ONE {
            sums.iter_mut().for_each(|sum| *sum = *sum * self.factor);
        }
        if let Some(row) = row {
            sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum = *sum + x);
        }
        let held = if matches!(self.plus, Plus::Output) { Some(&*to) } else { matrix };
        if let Some(held) = held {
            let mut wide = [T::ZERO; GROUP];
            let wide = &mut wide[..held.len()];
            O::read(simd, held, wide);
            sums.iter_mut().zip(wide).for_each(|(sum, x)| *sum = *sum + *x);
        }
        O::write(simd, sums, to);
    }
}

/// Four columns, from one on, of some rows that are `pitch` apart. What is behind the last row is of any value.
#[inline(always)]
fn turn<T: Turn>(
    (sums, pitch): (&[T], usize),
    rows: Range<usize>,
    first: usize,
    to: &mut [[T; LINE]; SQUARE],
) {
    for (i, at) in rows.clone().step_by(SQUARE).enumerate() {
        let row = |j: usize| sums[(at + j).min(rows.end - 1) * pitch + first..].first_chunk::<SQUARE>();
        if let [Some(a), Some(b), Some(c), Some(d)] = [row(0), row(1), row(2), row(3)] {
            for (to, turned) in to.iter_mut().zip(T::turned([a, b, c, d])) {
                to[i * SQUARE..][..SQUARE].copy_from_slice(&turned);
            }
        }
    }
}
