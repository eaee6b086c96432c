//! Where tiles go: what is done to a sum before it is rounded and written.

#![expect(unsafe_code, reason = "tasks write blocks of one output")]

use super::{Packed, ROWS};
use crate::kernels::product::Before;
use crate::simd::convert::Stored;
use crate::simd::{Simd, Work};
use std::marker::PhantomData;

/// The widest tile.
const WIDEST: usize = 16;

/// What becomes of a sum.
#[derive(Clone, Copy)]
pub(crate) struct Then<'a, T> {
    /// It is multiplied by this.
    pub(crate) factor: T,
    /// The element of its column is added.
    pub(crate) row: Option<&'a [T]>,
    /// What the output held is added, or not.
    pub(crate) before: Before,
}

impl<T: Packed> Then<'_, T> {
    /// The sum and no more.
    pub(crate) const WRITTEN: Self = Self { factor: T::ONE, row: None, before: Before::Replaced };
}

/// An output, one row after another, of which tasks write blocks that do not meet.
pub(super) struct Output<'a, O> {
    first: *mut O,
    len: usize,
    /// Elements of a row.
    pitch: usize,
    /// Whether tiles hold its columns as rows.
    pub(super) turned: Turned,
    borrowed: PhantomData<&'a mut [O]>,
}

/// Which way tiles lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turned {
    /// As the output.
    Not,
    /// A row of a tile goes to a column.
    Over,
}

// SAFETY: it is a slice of `O` that is borrowed for it alone; who writes to it promises to write where nobody else does.
unsafe impl<O: Send> Sync for Output<'_, O> {}

impl<'a, O> Output<'a, O> {
    pub(super) fn new(out: &'a mut [O], pitch: usize, turned: Turned) -> Self {
        Self { first: out.as_mut_ptr(), len: out.len(), pitch, turned, borrowed: PhantomData }
    }

    /// `len` elements of a row from a column on.
    ///
    /// # Safety
    ///
    /// No other task has any of them.
    #[expect(clippy::mut_from_ref, reason = "what is borrowed from it does not meet, by the caller's word")]
    unsafe fn piece(&self, row: usize, column: usize, len: usize) -> &mut [O] {
        let at = row * self.pitch + column;
        assert!(at + len <= self.len, "a piece of the output");
        // SAFETY: it is within the slice, and nobody else's.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(at), len) }
    }
}

/// The writing of tiles, of which the first element is that of the row and column `at` of all tiles.
pub(super) struct Finish<'a, T, O> {
    pub(super) tiles: &'a mut [T],
    pub(super) out: &'a Output<'a, O>,
    pub(super) at: [usize; 2],
    /// Rows and columns that there are of the tiles.
    pub(super) size: [usize; 2],
    pub(super) then: Then<'a, T>,
}

impl<T: Packed, O: Stored<T>> Work for Finish<'_, T, O> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // Known widths make loops of known length.
        match (self.out.turned, T::COLUMNS) {
            (Turned::Not, 8) => self.rows::<S, 8>(simd),
            (Turned::Not, _) => self.rows::<S, 16>(simd),
            (Turned::Over, 8) => self.columns::<S, 8>(simd),
            (Turned::Over, _) => self.columns::<S, 16>(simd),
        }
    }
}

impl<T: Packed, O: Stored<T>> Finish<'_, T, O> {
    /// Tiles that lie as the output.
    #[inline(always)]
    fn rows<S: Simd, const WIDTH: usize>(self, simd: S) {
        assert_eq!(T::COLUMNS, WIDTH, "a width of tiles");
        let Self { tiles, out, at, size: [rows, columns], then } = self;
        let across = columns.div_ceil(WIDTH);
        let (lines, _) = tiles.as_chunks_mut::<WIDTH>();
        for row in 0..rows {
            let lines = lines[row / ROWS * across * ROWS + row % ROWS..].iter_mut().step_by(ROWS);
            for (j, sums) in lines.take(across).enumerate() {
                let there = WIDTH.min(columns - j * WIDTH);
                // SAFETY: a block is one task's.
                let to = unsafe { out.piece(at[0] + row, at[1] + j * WIDTH, there) };
                finish(simd, sums, at[1] + j * WIDTH, to, then);
            }
        }
    }

    /// Tiles whose rows are columns of the output.
    #[inline(always)]
    fn columns<S: Simd, const WIDTH: usize>(self, simd: S) {
        assert_eq!(T::COLUMNS, WIDTH, "a width of tiles");
        let Self { tiles, out, at, size: [rows, columns], then } = self;
        let across = columns.div_ceil(WIDTH);
        let (tiles, _) = tiles.as_chunks::<WIDTH>().0.as_chunks::<ROWS>();
        for column in 0..columns {
            for i in 0..rows.div_ceil(ROWS) {
                let tile = &tiles[i * across + column / WIDTH];
                let mut sums = [T::ZERO; ROWS];
                for (sum, row) in sums.iter_mut().zip(tile) {
                    *sum = row[column % WIDTH];
                }
                let there = ROWS.min(rows - i * ROWS);
                // SAFETY: a block is one task's.
                let to = unsafe { out.piece(at[1] + column, at[0] + i * ROWS, there) };
                finish(simd, &mut sums, at[0] + i * ROWS, to, then);
            }
        }
    }
}

/// Writes sums of one row of the output, from a column on.
#[inline(always)]
fn finish<S: Simd, T: Packed, O: Stored<T>, const WIDTH: usize>(
    simd: S,
    sums: &mut [T; WIDTH],
    column: usize,
    to: &mut [O],
    then: Then<'_, T>,
) {
    let there = to.len();
    changed(&mut sums[..there], column, then);
    match to.as_chunks_mut::<WIDTH>() {
        ([to], []) => add_and_write(simd, sums, to, then.before),
        _ => add_and_write(simd, &mut sums[..there], to, then.before),
    }
}

/// What is done to sums of the columns from `column` on, whatever the output holds.
#[inline(always)]
fn changed<T: Packed>(sums: &mut [T], column: usize, then: Then<'_, T>) {
    if then.factor != T::ONE {
        sums.iter_mut().for_each(|sum| *sum = *sum * then.factor);
    }
    if let Some(added) = then.row {
        let added = &added[column..][..sums.len()];
        sums.iter_mut().zip(added).for_each(|(sum, &x)| *sum = *sum + x);
    }
}

#[inline(always)]
fn add_and_write<S: Simd, T: Packed, O: Stored<T>>(simd: S, sums: &mut [T], to: &mut [O], before: Before) {
    if before == Before::Kept {
        let mut held = [T::ZERO; WIDEST];
        O::read(simd, to, &mut held[..sums.len()]);
        sums.iter_mut().zip(held).for_each(|(sum, x)| *sum = *sum + x);
    }
    O::write(simd, sums, to);
}
