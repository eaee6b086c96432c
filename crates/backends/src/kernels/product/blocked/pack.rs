//! Panels: some rows of the left operand, or columns of the right one, side by side for each term of the sums.

use super::Packed;
use crate::kernels::product::Matrix;
use crate::simd::convert::Stored;
use crate::simd::lanes::Lanes;
use crate::simd::{Simd, Work};

/// Terms that are brought to `T` before they are turned.
const TURNED: usize = 32;
/// Terms of which all panels are packed while their lines are near.
const NEAR: usize = 16;
/// Elements on a side of what is turned in registers.
const SQUARE: usize = 4;
/// The widest panel.
const WIDEST: usize = 16;

/// The packing of panels of `width`, from the panel `first` on, of a matrix that has a row for each lane and a column for each
/// term. Lanes
/// beyond the matrix stay what the memory held: nothing that is made of them is written.
pub(super) struct Pack<'a, T, X> {
    pub(super) x: &'a [X],
    pub(super) matrix: Matrix,
    pub(super) width: usize,
    pub(super) first: usize,
    pub(super) to: &'a mut [T],
}

impl<T: Packed, X: Stored<T>> Work for Pack<'_, T, X> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // Known widths make loops of known length.
        match self.width {
            super::ROWS => self.panels::<S, { super::ROWS }>(simd),
            8 => self.panels::<S, 8>(simd),
            _ => self.panels::<S, WIDEST>(simd),
        }
    }
}

impl<T: Packed, X: Stored<T>> Pack<'_, T, X> {
    #[inline(always)]
    fn panels<S: Simd, const WIDTH: usize>(self, simd: S) {
        assert_eq!(self.width, WIDTH, "a width of panels");
        let Self { x, matrix, first, to, .. } = self;
        let (to, _) = to.as_chunks_mut::<WIDTH>();
        let near = if matrix.row == 1 { NEAR } else { matrix.columns };
        for from in (0..matrix.columns).step_by(near) {
            let terms = from..matrix.columns.min(from + near);
            for (i, to) in to.chunks_exact_mut(matrix.columns).enumerate() {
                let at = (first + i) * WIDTH;
                let lanes = Matrix { rows: WIDTH.min(matrix.rows - at), ..matrix };
                let (x, to) = (&x[at * matrix.row + from * matrix.column..], &mut to[terms.clone()]);
                match matrix {
                    Matrix { row: 1, .. } => side_by_side(simd, x, lanes, to),
                    Matrix { column: 1, .. } => turned(simd, x, lanes, to),
                    _ => one_by_one(simd, x, lanes, to, 0),
                }
            }
        }
    }
}

/// Lanes that lie one after another.
#[inline(always)]
fn side_by_side<S: Simd, T: Packed, X: Stored<T>, const WIDTH: usize>(
    simd: S,
    x: &[X],
    lanes: Matrix,
    to: &mut [[T; WIDTH]],
) {
    for (term, to) in to.iter_mut().enumerate() {
        let from = &x[term * lanes.column..];
        // Terms lie too far apart for the processor to see which come next.
        Lanes::<f32>::prefetch(simd, from.as_ptr().wrapping_add(NEAR * lanes.column).cast());
        match from.first_chunk::<WIDTH>() {
            Some(from) if lanes.rows == WIDTH => X::read(simd, from, to),
            _ => X::read(simd, &from[..lanes.rows], &mut to[..lanes.rows]),
        }
    }
}

/// Terms that lie one after another.
#[inline(always)]
fn turned<S: Simd, T: Packed, X: Stored<T>, const WIDTH: usize>(
    simd: S,
    x: &[X],
    lanes: Matrix,
    to: &mut [[T; WIDTH]],
) {
    let (whole, rest) = to.as_chunks_mut::<TURNED>();
    let done = whole.len() * TURNED;
    let full = lanes.rows / SQUARE * SQUARE;
    for lane in (0..full).step_by(SQUARE) {
        let mut wide = [[T::ZERO; TURNED]; SQUARE];
        for (part, to) in whole.iter_mut().enumerate() {
            let rows: [&[X]; SQUARE] =
                std::array::from_fn(|i| &x[(lane + i) * lanes.row + part * TURNED..][..TURNED]);
            if let Some(rows) = as_they_are(rows) {
                turn(rows, to, lane);
                continue;
            }
            for (wide, row) in wide.iter_mut().zip(rows) {
                X::read(simd, row, wide);
            }
            turn(wide.each_ref(), to, lane);
        }
    }
    if full < lanes.rows {
        let x = &x[full * lanes.row..];
        one_by_one(simd, x, Matrix { rows: lanes.rows - full, ..lanes }, whole.as_flattened_mut(), full);
    }
    if !rest.is_empty() {
        one_by_one(simd, &x[done..], lanes, rest, 0);
    }
}

/// Rows of `T`, where they are that.
#[inline(always)]
fn as_they_are<T, X: Stored<T>>([a, b, c, d]: [&[X]; SQUARE]) -> Option<[&[T; TURNED]; SQUARE]> {
    let row = |x| X::as_it_is(x)?.first_chunk::<TURNED>();
    Some([row(a)?, row(b)?, row(c)?, row(d)?])
}

/// Four rows as the lanes from `lane` on.
#[inline(always)]
fn turn<T: Packed, const WIDTH: usize>(
    [a, b, c, d]: [&[T; TURNED]; SQUARE],
    to: &mut [[T; WIDTH]; TURNED],
    lane: usize,
) {
    for (term, to) in to.iter_mut().enumerate() {
        to[lane..lane + SQUARE].copy_from_slice(&[a[term], b[term], c[term], d[term]]);
    }
}

/// Elements with gaps between them, whichever way, as the lanes from `first` on.
#[inline(always)]
fn one_by_one<S: Simd, T: Packed, X: Stored<T>, const WIDTH: usize>(
    simd: S,
    x: &[X],
    lanes: Matrix,
    to: &mut [[T; WIDTH]],
    first: usize,
) {
    for (term, to) in to.iter_mut().enumerate() {
        for (lane, to) in to[first..].iter_mut().enumerate().take(lanes.rows) {
            let at = lane * lanes.row + term * lanes.column;
            X::read(simd, &x[at..=at], std::slice::from_mut(to));
        }
    }
}
