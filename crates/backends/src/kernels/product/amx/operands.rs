//! What tiles are loaded from: the lanes of an operand in panels of 16, a kilobyte for every 32 numbers of them.

use super::{DEPTH, SIDE};
use crate::kernels::product::Matrix;
use crate::kernels::product::blocked::{Memory, Operand};
use crate::simd::lanes::Pair;
use crate::simd::turn::Turn;
use crate::simd::{Isa, Simd, Work};
use crate::threads::Threads;
use half::bf16;
use std::ops::Range;

/// What a tile holds.
type Tile = [[Pair; SIDE]; SIDE];
/// Pairs of a tile.
pub(super) const TILE: usize = SIDE * SIDE;
/// Panels that one task packs, at least.
const WORTH_PACKING: usize = 4;
/// Pairs on a side of what is turned in registers.
const SQUARE: usize = 4;

/// How numbers of 16 lanes lie in a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A row for each lane, of 32 numbers.
    Left,
    /// A row for every two numbers, of a pair for each lane.
    Right,
}

/// Some numbers of some lanes in panels, with zeros up to whole tiles.
pub(super) struct Tiles {
    pairs: Memory<Pair>,
    /// Pairs of a panel.
    panel: usize,
}

impl Tiles {
    /// Packs them.
    pub(super) fn of(
        role: Role,
        operand: impl Operand<Pair>,
        lanes: Range<usize>,
        of: Range<usize>,
        threads: Threads,
    ) -> Self {
        let panel = of.len().div_ceil(DEPTH) * TILE;
        // A block takes two panels. The second one of the last may be of no lane: it is whatever was there, and so is what comes of it.
        let count = lanes.len().div_ceil(SIDE);
        let mut pairs = Memory::of(count.next_multiple_of(2) * panel);
        let each = match threads {
            Threads::One => count,
            Threads::All => WORTH_PACKING,
        };
        let tasks = pairs[..count * panel].chunks_mut(each * panel).enumerate().collect();
        threads.share_out(tasks, |(task, to): (usize, &mut [Pair])| {
            let first = lanes.start + task * each * SIDE;
            Isa::best().run(Pack { role, operand, first, of: of.clone(), panel, to });
        });
        Self { pairs, panel }
    }

    /// The two panels of the lanes from the first of a block on.
    pub(super) fn block(&self, block: usize) -> &[Pair] {
        &self.pairs[2 * block * self.panel..][..2 * self.panel]
    }

    /// One of the panels, or the last one where there are fewer.
    pub(super) fn panel(&self, panel: usize) -> &[Pair] {
        let last = self.pairs.len() / self.panel - 1;
        &self.pairs[panel.min(last) * self.panel..][..self.panel]
    }
}

/// The packing of some panels, of the lanes from `first` on.
struct Pack<'a, A> {
    role: Role,
    operand: A,
    first: usize,
    of: Range<usize>,
    panel: usize,
    to: &'a mut [Pair],
}

impl<A: Operand<Pair>> Work for Pack<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { role, operand, first, of, panel, to } = self;
        if role == Role::Left
            && let Some((x, matrix)) = operand.as_matrix()
            && matrix.column == 1
        {
            for (i, to) in to.chunks_exact_mut(panel).enumerate() {
                let lane = first + i * SIDE;
                let rows = Matrix { rows: SIDE.min(matrix.rows - lane), columns: of.len(), ..matrix };
                copy(&x[lane * matrix.row + of.start..], rows, as_tiles(to));
            }
            return;
        }
        let there = of.len().div_ceil(2) * SIDE;
        if there == panel {
            operand.pack::<S, SIDE>(simd, first, of, to.as_chunks_mut().0);
        } else {
            for (i, to) in to.chunks_exact_mut(panel).enumerate() {
                let (numbers, beyond) = to.split_at_mut(there);
                operand.pack::<S, SIDE>(simd, first + i * SIDE, of.clone(), numbers.as_chunks_mut().0);
                beyond.fill(Pair::default());
            }
        }
        if role == Role::Left {
            as_tiles(to).iter_mut().for_each(turn);
        }
    }
}

fn as_tiles(pairs: &mut [Pair]) -> &mut [Tile] {
    pairs.as_chunks_mut().0.as_chunks_mut().0
}

/// The rows of a matrix, whose numbers lie one after another.
#[inline(always)]
fn copy(x: &[bf16], rows: Matrix, to: &mut [Tile]) {
    for (step, tile) in to.iter_mut().enumerate() {
        let first = step * DEPTH;
        let there = DEPTH.min(rows.columns - first);
        for (i, to) in tile.iter_mut().enumerate().take(rows.rows) {
            let numbers = &x[i * rows.row + first..][..there];
            if let Some(numbers) = numbers.first_chunk::<DEPTH>() {
                to.iter_mut().zip(numbers.as_chunks().0).for_each(|(to, &pair)| *to = Pair(pair));
                continue;
            }
            *to = [Pair::default(); SIDE];
            to.iter_mut().flat_map(|pair| &mut pair.0).zip(numbers).for_each(|(to, &x)| *to = x);
        }
    }
}

/// A row for each column.
#[inline(always)]
fn turn(tile: &mut Tile) {
    let from = *tile;
    for (i, rows) in from.as_chunks::<SQUARE>().0.iter().enumerate() {
        let rows = rows.each_ref().map(|row| row.as_chunks::<SQUARE>().0);
        for j in 0..SIDE / SQUARE {
            let turned = Pair::turned([&rows[0][j], &rows[1][j], &rows[2][j], &rows[3][j]]);
            for (to, turned) in tile[j * SQUARE..].iter_mut().zip(&turned) {
                to[i * SQUARE..][..SQUARE].copy_from_slice(turned);
            }
        }
    }
}
