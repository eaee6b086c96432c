//! What tiles are loaded from: the left operand row by row, the right one in panels of pairs.

use super::{DEPTH, PANEL, SIDE};
use crate::kernels::product::blocked::{Memory, Operand, Threads};
use crate::simd::lanes::{Pair, fetch};
use crate::simd::turn::Turn;
use crate::simd::{Isa, Simd, Work};
use half::bf16;
use std::ops::Range;

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
    /// Packs some numbers of some lanes.
    pub(super) fn of(
        operand: impl Operand<Pair>,
        lanes: Range<usize>,
        of: Range<usize>,
        threads: Threads,
    ) -> Self {
        let panel = of.len().div_ceil(DEPTH) * PAIRS * SIDE;
        // A block takes two panels. The second one of the last may be of no column: it is whatever was there, and so is what comes of it.
        let count = lanes.len().div_ceil(SIDE);
        let mut pairs = Memory::of(count.next_multiple_of(2) * panel);
        let each = match threads {
            Threads::One => count,
            Threads::All => WORTH_PACKING,
        };
        let tasks = pairs[..count * panel].chunks_mut(each * panel).enumerate().collect();
        threads.share_out(tasks, |(task, to): (usize, &mut [Pair])| {
            let first = lanes.start + task * each * SIDE;
            Isa::best().run(PackRight { operand, first, of: of.clone(), panel, to });
        });
        Self { pairs, panel }
    }

    /// The two panels of the columns from `column` on.
    pub(super) fn panels(&self, column: usize) -> &[Pair] {
        &self.pairs[column / SIDE * self.panel..][..2 * self.panel]
    }
}

/// The packing of some panels, of the lanes from `first` on.
struct PackRight<'a, A> {
    operand: A,
    first: usize,
    of: Range<usize>,
    panel: usize,
    to: &'a mut [Pair],
}

impl<A: Operand<Pair>> Work for PackRight<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { operand, first, of, panel, to } = self;
        let there = of.len().div_ceil(2) * SIDE;
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
    /// Some numbers of some lanes.
    pub(super) fn of(
        operand: &'a impl Operand<Pair>,
        lanes: Range<usize>,
        of: Range<usize>,
        threads: Threads,
    ) -> Self {
        let rows = operand.as_matrix().filter(|(_, matrix)| matrix.column == 1);
        let rows = rows.map(|(x, matrix)| (&x[lanes.start * matrix.row + of.start..], matrix.row));
        if let Some((x, row)) = rows
            && lanes.len().is_multiple_of(PANEL)
            && of.len().is_multiple_of(DEPTH)
        {
            return Self::InPlace(x, row);
        }
        let pitch = of.len().next_multiple_of(DEPTH);
        // Rows beyond the last are whatever was there, and so is what comes of them.
        let mut packed = Memory::of(lanes.len().next_multiple_of(PANEL) * pitch);
        if let Some((x, row)) = rows {
            for (i, to) in packed.chunks_exact_mut(pitch).enumerate().take(lanes.len()) {
                let (numbers, beyond) = to.split_at_mut(of.len());
                numbers.copy_from_slice(&x[i * row..][..of.len()]);
                beyond.fill(bf16::ZERO);
            }
            return Self::Packed(packed, pitch);
        }
        let count = lanes.len().div_ceil(SIDE);
        let tasks = packed[..count * SIDE * pitch].chunks_exact_mut(SIDE * pitch).enumerate().collect();
        threads.share_out(tasks, |(panel, to): (usize, &mut [bf16])| {
            let first = lanes.start + panel * SIDE;
            Isa::best().run(PackLeft { operand: *operand, first, of: of.clone(), pitch, to });
        });
        Self::Packed(packed, pitch)
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

/// The packing of 16 rows, of the lanes from `first` on.
struct PackLeft<'a, A> {
    operand: A,
    first: usize,
    of: Range<usize>,
    pitch: usize,
    to: &'a mut [bf16],
}

impl<A: Operand<Pair>> Work for PackLeft<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { operand, first, of, pitch, to } = self;
        let mut pairs = Memory::of(pitch / 2 * SIDE);
        let there = of.len().div_ceil(2) * SIDE;
        operand.pack::<S, SIDE>(simd, first, of, pairs[..there].as_chunks_mut().0);
        pairs[there..].fill(Pair::default());
        turn(pairs.as_chunks().0, to, pitch);
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
