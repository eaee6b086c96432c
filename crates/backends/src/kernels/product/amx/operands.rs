//! What tiles are loaded from: the left operand row by row, the right one in panels of pairs.

use super::{DEPTH, PANEL, SIDE};
use crate::kernels::product::Matrix;
use crate::kernels::product::blocked::{Memory, Operand, Strided, Threads};
use crate::simd::lanes::{Pair, fetch};
use crate::simd::turn::Turn;
use crate::simd::{Isa, Simd, Work};
use half::bf16;

/// Pairs of a tile's row.
const PAIRS: usize = DEPTH / 2;
/// Panels of half the width of a block that one task packs, at least.
const WORTH_PACKING: usize = 4;
/// Pairs on a side of what is turned in registers.
const SQUARE: usize = 4;

/// The right operand: for each 16 columns a panel, which has a row of 16 pairs for every two numbers of a column, and zeros up to
/// whole tiles.
pub(super) struct Right {
    pairs: Memory<Pair>,
    /// Pairs of a panel.
    panel: usize,
}

impl Right {
    /// Packs a matrix of which `k` counts the columns.
    pub(super) fn of(x: &[bf16], matrix: Matrix, threads: Threads) -> Self {
        let panel = matrix.columns.div_ceil(DEPTH) * PAIRS * SIDE;
        let operand = Strided::new(x, matrix);
        // A block takes two panels. The second one of the last may be of no column: it is whatever was there, and so is what comes of it.
        let count = matrix.rows.div_ceil(SIDE);
        let mut pairs = Memory::of(count.next_multiple_of(2) * panel);
        let each = match threads {
            Threads::One => count,
            Threads::All => WORTH_PACKING,
        };
        let tasks = pairs[..count * panel].chunks_mut(each * panel).enumerate().collect();
        threads.share_out(tasks, |(task, to): (usize, &mut [Pair])| {
            Isa::best().run(PackRight { operand, matrix, first: task * each * SIDE, panel, to });
        });
        Self { pairs, panel }
    }

    /// The two panels of the columns from `column` on.
    pub(super) fn panels(&self, column: usize) -> &[Pair] {
        &self.pairs[column / SIDE * self.panel..][..2 * self.panel]
    }
}

/// The packing of some panels, of the columns from `first` on.
struct PackRight<'a> {
    operand: Strided<'a, bf16>,
    matrix: Matrix,
    first: usize,
    panel: usize,
    to: &'a mut [Pair],
}

impl Work for PackRight<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { operand, matrix, first, panel, to } = self;
        let there = matrix.columns.div_ceil(2) * SIDE;
        let of = 0..matrix.columns;
        if there == panel {
            return operand.pack::<S, SIDE>(simd, first, of, to.as_chunks_mut().0);
        }
        for (i, to) in to.chunks_exact_mut(panel).enumerate() {
            let (numbers, beyond) = to.split_at_mut(there);
            operand.pack::<S, SIDE>(simd, first + i * SIDE, of.clone(), numbers.as_chunks_mut().0);
            beyond.fill(Pair::default());
        }
    }
}

/// Some rows of the left operand, whole blocks of them and whole tiles along `k`, one number after another.
pub(super) enum Left<'a> {
    /// Where they lie, so many numbers apart.
    InPlace(&'a [bf16], usize),
    Packed(Memory<bf16>, usize),
}

impl<'a> Left<'a> {
    /// The rows from `first` on, of the matrix; `count` of them.
    #[inline(always)]
    pub(super) fn of<S: Simd>(simd: S, x: &'a [bf16], matrix: Matrix, first: usize, count: usize) -> Self {
        let Matrix { columns, row, column, .. } = matrix;
        if column == 1 && count.is_multiple_of(PANEL) && columns.is_multiple_of(DEPTH) {
            return Self::InPlace(&x[first * row..], row);
        }
        let pitch = columns.next_multiple_of(DEPTH);
        // Rows beyond the last are whatever was there, and so is what comes of them.
        let mut rows = Memory::of(count.next_multiple_of(PANEL) * pitch);
        if column == 1 {
            for (i, to) in rows.chunks_exact_mut(pitch).enumerate().take(count) {
                let (numbers, beyond) = to.split_at_mut(columns);
                numbers.copy_from_slice(&x[(first + i) * row..][..columns]);
                beyond.fill(bf16::ZERO);
            }
            return Self::Packed(rows, pitch);
        }
        let operand = Strided::new(x, matrix);
        let mut pairs = Memory::of(pitch / 2 * SIDE);
        let there = columns.div_ceil(2) * SIDE;
        for (i, to) in rows.chunks_exact_mut(SIDE * pitch).enumerate().take(count.div_ceil(SIDE)) {
            operand.pack::<S, SIDE>(simd, first + i * SIDE, 0..columns, pairs[..there].as_chunks_mut().0);
            pairs[there..].fill(Pair::default());
            turn(pairs.as_chunks().0, to, pitch);
        }
        Self::Packed(rows, pitch)
    }

    /// The rows from one on, and how far apart they are.
    #[inline(always)]
    pub(super) fn from(&self, row: usize) -> (&[bf16], usize) {
        match self {
            Self::InPlace(x, pitch) => (&x[row * pitch..], *pitch),
            Self::Packed(rows, pitch) => (&rows[row * pitch..], *pitch),
        }
    }

    /// Has a part of a block's rows fetched: the `part`th of `parts`, of the rows from `row` on, of `len` numbers.
    #[inline(always)]
    pub(super) fn fetch(&self, row: usize, len: usize, part: usize, parts: usize) {
        let Self::InPlace(x, pitch) = self else { return };
        let lines = len / DEPTH;
        for line in part * PANEL * lines / parts..(part + 1) * PANEL * lines / parts {
            fetch(x.as_ptr().wrapping_add((row + line / lines) * pitch + line % lines * DEPTH));
        }
    }
}

/// Rows of pairs for a panel of them, 16 rows `pitch` numbers apart.
#[inline(always)]
fn turn(panel: &[[Pair; SIDE]], to: &mut [bf16], pitch: usize) {
    let (fours, _) = panel.as_chunks::<SQUARE>();
    for (at, four) in fours.iter().enumerate() {
        let four = four.each_ref().map(|lanes| lanes.as_chunks::<SQUARE>().0);
        for i in 0..SIDE / SQUARE {
            let rows = Pair::turned(four.map(|lanes| &lanes[i]));
            for (j, row) in rows.iter().enumerate() {
                let to = &mut to[(i * SQUARE + j) * pitch + at * 2 * SQUARE..][..2 * SQUARE];
                to.as_chunks_mut().0.iter_mut().zip(row).for_each(|(to, pair)| *to = pair.0);
            }
        }
    }
}
