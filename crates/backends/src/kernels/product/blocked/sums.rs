//! The sums of a run: a few rows times a few vectors, which stay in registers.

#![expect(unsafe_code, reason = "loops over panels without a check for each term")]

use super::{Packed, ROWS};
use crate::kernels::product::Before;
use crate::simd::lanes::Lanes;
use crate::simd::{Simd, Work};

/// The products of all panels of `a` with some of `b`, each a tile of [`ROWS`] by [`Packed::COLUMNS`].
pub(crate) struct Sums<'a, T> {
    pub(super) a: &'a [T],
    /// The rows that there are of these panels.
    pub(super) rows: usize,
    pub(super) b: &'a [T],
    /// The terms of a panel.
    pub(super) terms: usize,
    /// The tiles of the first panel of `a`, then of the next.
    pub(super) tiles: &'a mut [T],
    pub(super) before: Before,
}

impl<T: Packed> Work for Sums<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        T::sums(simd, self);
    }
}

/// [`Sums`], where the instruction set has vectors of `T`: 12 rows of two vectors of 64 bytes, 6 of two of 32 bytes, or what
/// 16 vectors of 16 bytes hold. Panels of `a` are packed for the most rows, and those of `b` in 64 bytes.
#[inline(always)]
pub(super) fn sums<S: Lanes<T>, T: Packed>(simd: S, sums: Sums<'_, T>) {
    match S::COUNT * size_of::<T>() {
        64 => all::<S, T, 12, 4, 2>(simd, sums),
        32 => all::<S, T, 6, 2, 2>(simd, sums),
        _ => all::<S, T, 2, 2, 4>(simd, sums),
    }
}

/// `MOST` rows at a time, or a multiple of `STEP` where there are fewer, of `VECTORS`.
#[inline(always)]
fn all<S: Lanes<T>, T: Packed, const MOST: usize, const STEP: usize, const VECTORS: usize>(
    simd: S,
    sums: Sums<'_, T>,
) {
    let Sums { a, rows, b, terms, tiles, before } = sums;
    let (panels, tile) = (b.len() / (terms * T::COLUMNS), ROWS * T::COLUMNS);
    // Panels that one call multiplies with: vectors as wide as a panel come of two.
    let together = (VECTORS * S::COUNT / T::COLUMNS).max(1);
    for j in (0..panels).step_by(together) {
        let there = together.min(panels - j);
        for (i, tiles) in tiles.chunks_exact_mut(panels * tile).enumerate() {
            let a = &a[i * terms * ROWS..][..terms * ROWS];
            let b = &b[j * terms * T::COLUMNS..];
            let tiles = &mut tiles[j * tile..(j + there) * tile];
            for row in (0..ROWS.min(rows - i * ROWS)).step_by(MOST) {
                // The next panels come from the third level while these are multiplied, a part during each call.
                let step = together * T::COLUMNS * MOST / rows.next_multiple_of(MOST);
                let part = (together * T::COLUMNS + (i * ROWS + row) / MOST * step) * terms;
                let next = (b.as_ptr().wrapping_add(part), step);
                let call = Tile { a, row, b, next, apart: (terms * T::COLUMNS, tile), tiles, before };
                let rows = MOST.min(rows - i * ROWS - row).div_ceil(STEP) * STEP;
                if there < together {
                    call.rows::<S, STEP, 1>(simd, rows);
                } else {
                    call.rows::<S, STEP, VECTORS>(simd, rows);
                }
            }
        }
    }
}

/// One set of registers.
struct Tile<'a, T> {
    /// The panel's terms.
    a: &'a [T],
    /// The first of its rows.
    row: usize,
    /// From the first term of the first panel on.
    b: &'a [T],
    /// How far apart panels of `b`, and tiles, are.
    apart: (usize, usize),
    /// What is fetched meanwhile, and how many elements further for each term.
    next: (*const T, usize),
    tiles: &'a mut [T],
    before: Before,
}

impl<T: Packed> Tile<'_, T> {
    #[inline(always)]
    fn rows<S: Lanes<T>, const STEP: usize, const VECTORS: usize>(self, simd: S, rows: usize) {
        match (STEP, rows) {
            (4, 4) => self.sum::<S, 4, VECTORS>(simd),
            (4, 8) => self.sum::<S, 8, VECTORS>(simd),
            (4, _) => self.sum::<S, 12, VECTORS>(simd),
            (_, 2) => self.sum::<S, 2, VECTORS>(simd),
            (_, 4) => self.sum::<S, 4, VECTORS>(simd),
            _ => self.sum::<S, 6, VECTORS>(simd),
        }
    }

    #[inline(always)]
    fn sum<S: Lanes<T>, const COUNT: usize, const VECTORS: usize>(self, simd: S) {
        let (terms, _) = self.a.as_chunks::<ROWS>();
        // Vectors lie in one panel, or each begins one.
        let (b_apart, tile_apart) = if S::COUNT == T::COLUMNS { self.apart } else { (S::COUNT, S::COUNT) };
        let last = (VECTORS - 1) * b_apart + S::COUNT;
        assert!((terms.len() - 1) * T::COLUMNS + last <= self.b.len(), "terms of b");
        let end = (VECTORS - 1) * tile_apart + S::COUNT;
        assert!((self.row + COUNT - 1) * T::COLUMNS + end <= self.tiles.len(), "room for the tile");
        assert!(self.row + COUNT <= ROWS, "rows of the panel");
        let mut sums = [[simd.splat(T::ZERO); VECTORS]; COUNT];
        let mut b = self.b.as_ptr();
        let (mut next, step) = self.next;
        for a in terms {
            // SAFETY: by the assertions the vectors of every term are in `b`, and the rows among those of a term.
            unsafe {
                let mut vectors = [simd.splat(T::ZERO); VECTORS];
                for (v, vector) in vectors.iter_mut().enumerate() {
                    *vector = simd.read(b.add(v * b_apart));
                }
                b = b.wrapping_add(T::COLUMNS);
                simd.prefetch(next);
                next = next.wrapping_add(step);
                let a = a.as_ptr().add(self.row);
                for (row, sums) in sums.iter_mut().enumerate() {
                    let a = simd.splat(*a.add(row));
                    for (sum, &vector) in sums.iter_mut().zip(&vectors) {
                        *sum = simd.fused(a, vector, *sum);
                    }
                }
            }
        }
        let tiles = self.tiles.as_mut_ptr();
        for (row, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                // SAFETY: by the assertions all of it is in the tiles, which are borrowed for this.
                unsafe {
                    let to = tiles.add((self.row + row) * T::COLUMNS + v * tile_apart);
                    let sum = if self.before == Before::Kept { simd.plus(simd.read(to), sum) } else { sum };
                    simd.write(sum, to);
                }
            }
        }
    }
}
