//! Panels: some rows of the left operand, or columns of the right one, side by side for each term of the sums.

use super::source::Source;
use super::{InPlace, Term, steps};
use crate::kernels::product::Matrix;
use crate::simd::lanes::fetch;
use crate::simd::turn::Turn;
use crate::simd::{Simd, Work};
use half::bf16;
use std::ops::Range;

/// Terms that are brought to `E` before they are turned.
const TURNED: usize = 32;
/// Terms of which all panels are packed while their lines are near.
const NEAR: usize = 16;
/// Elements on a side of what is turned in registers.
const SQUARE: usize = 4;

/// An operand of a product: a lane for each row of the left one, or column of the right one.
pub(crate) trait Operand<E: Term>: Copy + Send + Sync {
    /// Its lanes.
    fn lanes(&self) -> usize;

    /// The numbers of a lane, of which a term has [`Term::NUMBERS`].
    fn numbers(&self) -> usize;

    /// The matrix itself, a row for each lane, where it is one of bf16 in memory.
    fn as_matrix(&self) -> Option<(&[bf16], Matrix)> {
        None
    }

    /// The operand as it lies, where its elements are of `E`, and there is one.
    fn in_place(&self) -> Option<InPlace<'_, E>> {
        None
    }

    /// Writes panels of lanes from `first` on, one after another, of the numbers in `of`. Lanes beyond the last stay what the memory
    /// held: nothing that is made of them is written.
    fn pack<S: Simd, const WIDTH: usize>(
        &self,
        simd: S,
        first: usize,
        of: Range<usize>,
        to: &mut [[E; WIDTH]],
    );
}

/// [`Operand::pack`], of panels of `width`.
pub(super) struct Pack<'a, E, A> {
    pub(super) operand: A,
    pub(super) width: usize,
    pub(super) first: usize,
    pub(super) of: Range<usize>,
    pub(super) to: &'a mut [E],
}

impl<E: Term, A: Operand<E>> Work for Pack<'_, E, A> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { operand, width, first, of, to } = self;
        // Known widths make loops of known length.
        match width {
            8 => operand.pack::<S, 8>(simd, first, of, to.as_chunks_mut().0),
            12 => operand.pack::<S, 12>(simd, first, of, to.as_chunks_mut().0),
            16 => operand.pack::<S, 16>(simd, first, of, to.as_chunks_mut().0),
            _ => unreachable!("panels of {width} lanes"),
        }
    }
}

/// A matrix in memory, of a lane for each row and a number of it for each column.
#[derive(Debug)]
pub(crate) struct Strided<'a, X> {
    x: &'a [X],
    matrix: Matrix,
}

impl<X> Clone for Strided<'_, X> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<X> Copy for Strided<'_, X> {}

impl<'a, X> Strided<'a, X> {
    /// # Panics
    ///
    /// Where the matrix reaches past the slice.
    pub(crate) fn new(x: &'a [X], matrix: Matrix) -> Self {
        assert!(matrix.span() <= x.len(), "a matrix within its slice");
        Self { x, matrix }
    }
}

impl<E: Term, X: Source<E>> Operand<E> for Strided<'_, X> {
    fn lanes(&self) -> usize {
        self.matrix.rows
    }

    fn numbers(&self) -> usize {
        self.matrix.columns
    }

    fn as_matrix(&self) -> Option<(&[bf16], Matrix)> {
        X::as_bf16(self.x).map(|x| (x, self.matrix))
    }

    #[inline(always)]
    fn pack<S: Simd, const WIDTH: usize>(
        &self,
        simd: S,
        first: usize,
        of: Range<usize>,
        to: &mut [[E; WIDTH]],
    ) {
        let Matrix { rows, row, column, .. } = self.matrix;
        let terms = of.len().div_ceil(E::NUMBERS);
        if row == 1 {
            let lanes = Matrix { rows: rows - first, columns: of.len(), row, column };
            return side_by_side(simd, &self.x[first + of.start * column..], lanes, terms, to);
        }
        for (i, to) in to.chunks_exact_mut(terms).enumerate() {
            let lane = first + i * WIDTH;
            let lanes = Matrix { rows: WIDTH.min(rows - lane), columns: of.len(), row, column };
            let x = &self.x[lane * row + of.start * column..];
            if column == 1 {
                turned(simd, x, lanes, to);
            } else {
                one_by_one(simd, x, lanes, to);
            }
        }
    }
}

/// Lanes that lie one after another: some terms of a panel, then of the next, for a term's lanes share lines.
#[inline(always)]
fn side_by_side<S: Simd, E: Term, X: Source<E>, const WIDTH: usize>(
    simd: S,
    x: &[X],
    lanes: Matrix,
    terms: usize,
    to: &mut [[E; WIDTH]],
) {
    for near in steps(terms, NEAR) {
        for (panel, to) in to.chunks_exact_mut(terms).enumerate() {
            let there = WIDTH.min(lanes.rows - panel * WIDTH);
            for (term, to) in near.clone().zip(&mut to[near.clone()]) {
                let first = term * E::NUMBERS;
                let numbers = (lanes.column, E::NUMBERS.min(lanes.columns - first));
                let from = &x[first * lanes.column + panel * WIDTH..];
                // Terms lie too far apart for the processor to see which come next.
                for number in 0..E::NUMBERS {
                    fetch(from.as_ptr().wrapping_add((NEAR * E::NUMBERS + number) * lanes.column));
                }
                if there == WIDTH {
                    X::side_by_side(simd, from, numbers, to);
                } else {
                    // Not the same call, which would become one of a length that nobody knows.
                    let lanes = Matrix { rows: there, columns: numbers.1, row: 1, column: lanes.column };
                    one_by_one(simd, from, lanes, std::slice::from_mut(to));
                }
            }
        }
    }
}

/// Terms that lie one after another.
#[inline(always)]
pub(crate) fn turned<S: Simd, E: Term, X: Source<E>, const WIDTH: usize>(
    simd: S,
    x: &[X],
    lanes: Matrix,
    to: &mut [[E; WIDTH]],
) {
    let whole = lanes.columns / E::NUMBERS / SQUARE * SQUARE;
    // Squares that do not fit are turned again with lanes before them.
    let squares = if lanes.rows < SQUARE { 0 } else { lanes.rows.div_ceil(SQUARE) };
    for square in 0..squares {
        let lane = (square * SQUARE).min(lanes.rows - SQUARE);
        let mut wide = [[E::default(); TURNED]; SQUARE];
        for part in steps(whole, TURNED) {
            let (at, len) = (lane * lanes.row + part.start * E::NUMBERS, part.len() * E::NUMBERS);
            let row = |i: usize| at + i * lanes.row..at + i * lanes.row + len;
            let rows = [&x[row(0)], &x[row(1)], &x[row(2)], &x[row(3)]];
            let to = &mut to[part.clone()];
            let as_they_are =
                (X::as_it_is(rows[0]), X::as_it_is(rows[1]), X::as_it_is(rows[2]), X::as_it_is(rows[3]));
            if let (Some(a), Some(b), Some(c), Some(d)) = as_they_are {
                turn([a, b, c, d], to, lane);
                continue;
            }
            for (wide, row) in wide.iter_mut().zip(rows) {
                X::along(simd, row, &mut wide[..part.len()]);
            }
            turn(wide.each_ref().map(|row| &row[..part.len()]), to, lane);
        }
    }
    let (done, rest) = if squares == 0 { (0, to) } else { (whole, &mut to[whole..]) };
    if !rest.is_empty() {
        let first = done * E::NUMBERS;
        one_by_one(simd, &x[first..], Matrix { columns: lanes.columns - first, ..lanes }, rest);
    }
}

/// Four rows as the lanes from `lane` on.
#[inline(always)]
fn turn<E: Turn, const WIDTH: usize>(rows: [&[E]; SQUARE], to: &mut [[E; WIDTH]], lane: usize) {
    assert!(lane + SQUARE <= WIDTH, "lanes of a panel");
    let [a, b, c, d] = [rows[0].as_chunks(), rows[1].as_chunks(), rows[2].as_chunks(), rows[3].as_chunks()];
    let rows = a.0.iter().zip(b.0).zip(c.0.iter().zip(d.0));
    for (((a, b), (c, d)), to) in rows.zip(to.as_chunks_mut::<SQUARE>().0) {
        let turned = E::turned([a, b, c, d]);
        for (to, turned) in to.iter_mut().zip(&turned) {
            to[lane..lane + SQUARE].copy_from_slice(turned);
        }
    }
}

/// Elements with gaps between them, whichever way.
#[inline(always)]
fn one_by_one<S: Simd, E: Term, X: Source<E>, const WIDTH: usize>(
    simd: S,
    x: &[X],
    lanes: Matrix,
    to: &mut [[E; WIDTH]],
) {
    for (term, to) in to.iter_mut().enumerate() {
        let number = term * E::NUMBERS;
        let there = E::NUMBERS.min(lanes.columns - number);
        for (lane, to) in to.iter_mut().enumerate().take(lanes.rows) {
            let at = lane * lanes.row + number * lanes.column;
            X::side_by_side(simd, &x[at..], (lanes.column, there), std::slice::from_mut(to));
        }
    }
}
