//! bf16 by the tile unit of Intel's processors from Sapphire Rapids on (AMX): a tile is 16 rows of 64 bytes, and one
//! instruction multiplies 16 × 32 by 32 × 16 into 16 × 16 of f32.
//!
//! Operands are packed into panels of 32 rows (of `a`) or columns (of `b`), each a row of pairs of tiles along `k`, with
//! zeros beyond the matrix. An `a` whose rows are contiguous and whole tiles is read where it lies. A block of 32 × 32 of the
//! result stays in four tiles over the whole of `k`. The instructions are written out, since Rust's intrinsics for them are
//! not stable.

#![expect(unsafe_code, reason = "instructions that were found at run time")]

use super::blocked::{Then, Threads};
use super::matrix::Matrix;
use crate::simd::convert::Stored;
use crate::simd::rows::{PARALLEL, share_out};
use crate::simd::{Isa, Simd, Work};
use half::bf16;
use std::arch::asm;
use std::cell::RefCell;
use std::sync::LazyLock;

/// Rows and pairs of a tile.
const SIDE: usize = 16;
/// Rows of `a` or columns of `b` in a panel.
const PANEL: usize = 2 * SIDE;
/// Terms of `k` in a tile.
const DEPTH: usize = 2 * SIDE;
/// Panels of `a` that a task multiplies with a panel of `b` while that is near.
const NEAR: usize = 4;

/// Pairs of bf16, the first in the lower half.
type Tile = [[u32; SIDE]; SIDE];

/// The processor has tiles, and the system lets this process use them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amx(());

impl Amx {
    pub(super) fn detect() -> Option<Self> {
        static FOUND: LazyLock<bool> = LazyLock::new(|| {
            let (bf16, tiles) = (1 << 22, 1 << 24);
            let leaf = std::arch::x86_64::__cpuid_count(7, 0);
            leaf.edx & bf16 != 0 && leaf.edx & tiles != 0 && may_use_tiles()
        });
        FOUND.then_some(Self(()))
    }

    /// Writes the product of two matrices, of which the slices hold all elements, and there are some.
    pub(super) fn multiply<O: Stored<f32>>(
        self,
        (a, lhs): (&[bf16], Matrix),
        (b, rhs): (&[bf16], Matrix),
        then: Then<'_, f32, O>,
        out: &mut [O],
        threads: Threads,
    ) {
        let b = Panels::of(b, rhs.transposed(), Form::Pairs);
        let a = match Left::as_it_lies(a, lhs) {
            Some(left) => left,
            None => Left::Packed(Panels::of(a, lhs, Form::Rows)),
        };
        let columns = rhs.columns;
        let near = if lhs.rows >= 4 * NEAR * PANEL { NEAR } else { 1 };
        let tasks: Vec<_> = out.chunks_mut(near * PANEL * columns).enumerate().collect();
        let block = |(task, out): (usize, &mut [O])| {
            Isa::best().run(Block { amx: self, a: &a, b: &b, first: task * near, columns, then, out });
        };
        match threads {
            Threads::One => tasks.into_iter().for_each(block),
            Threads::All => share_out(tasks, block),
        }
    }

    /// Writes a block of the product: of the panels `a` and `b`, which are as long.
    fn block(self, a: Panel<'_>, b: &[[Tile; 2]], block: &mut [[f32; PANEL]; PANEL]) {
        assert!(!b.is_empty(), "sums of something");
        let (first, row, half, step) = match a {
            Panel::Packed(tiles) => {
                assert_eq!(tiles.len(), b.len(), "panels of one depth");
                (tiles.as_ptr().cast::<u8>(), 64, 1024, 2048)
            }
            Panel::InPlace(x, pitch) => {
                assert!((PANEL - 1) * pitch + b.len() * DEPTH <= x.len(), "rows that are there");
                (x.as_ptr().cast::<u8>(), 2 * pitch, 2 * SIDE * pitch, 2 * DEPTH)
            }
        };
        // SAFETY: the token exists, so the instructions do. They read `b.len()` pairs of tiles of each panel, 16 rows of 64 bytes
        // each, which by the assertions are there, and write the four quarters of the block, whose rows are 128 bytes apart.
        // The configuration is 64 bytes, and no other code uses tiles.
        unsafe {
            asm!(
                "ldtilecfg [{config}]",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{a} + {a_row}]",
                "tileloadd tmm6, [{b} + {b_row}]",
                "tileloadd tmm7, [{b} + {b_row} + 1024]",
                "tileloadd tmm5, [{lower} + {a_row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, {a_step}",
                "add {lower}, {a_step}",
                "add {b}, 2048",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{out} + {wide}], tmm0",
                "tilestored [{out} + {wide} + 64], tmm1",
                "tilestored [{out} + {wide} + 2048], tmm2",
                "tilestored [{out} + {wide} + 2112], tmm3",
                "tilerelease",
                config = in(reg) &raw const CONFIG,
                a = inout(reg) first => _,
                lower = inout(reg) first.wrapping_add(half) => _,
                a_row = in(reg) row,
                a_step = in(reg) step,
                b = inout(reg) b.as_ptr() => _,
                b_row = in(reg) 64usize,
                steps = inout(reg) b.len() => _,
                wide = in(reg) 128usize,
                out = in(reg) block.as_mut_ptr(),
                options(nostack),
            );
        }
    }
}

/// Asks the system for the tiles' state, which it does not keep for processes that have not.
fn may_use_tiles() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    // SAFETY: the call changes what the kernel saves for this process, and nothing in its memory.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
}

/// Eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIG: Config = {
    let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
    let mut tile = 0;
    while tile < 8 {
        (row_bytes[tile], rows[tile]) = (64, 16);
        tile += 1;
    }
    Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
};

/// How a tile holds elements `(row of the panel, k)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Row by row, pairs along `k`: the left operand.
    Rows,
    /// Pair by pair, the panel's rows side by side: the right operand.
    Pairs,
}

/// A packed matrix: panels of `depth` pairs of tiles.
struct Panels {
    tiles: Vec<[Tile; 2]>,
    depth: usize,
}

thread_local! {
    /// The memory of the last two matrices that were packed: fresh pages would cost as much as the packing.
    static SPARE: RefCell<Vec<Vec<[Tile; 2]>>> = const { RefCell::new(Vec::new()) };
}

impl Panels {
    /// Packs a matrix of which `k` counts the columns.
    fn of(x: &[bf16], matrix: Matrix, form: Form) -> Self {
        let depth = matrix.columns.div_ceil(DEPTH);
        let mut tiles = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        tiles.resize(matrix.rows.div_ceil(PANEL) * depth, [[[0; SIDE]; SIDE]; 2]);
        let each = (PARALLEL / (PANEL * DEPTH)).div_ceil(depth).max(1);
        let tasks = tiles.chunks_mut(each * depth).enumerate().collect();
        share_out(tasks, |(task, tiles): (usize, &mut [[Tile; 2]])| {
            Isa::best().run(Pack { x, matrix, form, first: task * each, depth, tiles });
        });
        Self { tiles, depth }
    }

    fn panel(&self, i: usize) -> &[[Tile; 2]] {
        &self.tiles[i * self.depth..(i + 1) * self.depth]
    }
}

impl Drop for Panels {
    fn drop(&mut self) {
        let tiles = std::mem::take(&mut self.tiles);
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < 2 {
                spare.push(tiles)
            }
        });
    }
}

/// The left operand.
enum Left<'a> {
    Packed(Panels),
    /// Contiguous rows, so many elements apart, of which there are whole panels.
    InPlace(&'a [bf16], usize),
}

impl<'a> Left<'a> {
    fn as_it_lies(x: &'a [bf16], matrix: Matrix) -> Option<Self> {
        let Matrix { rows, columns, row, column } = matrix;
        let whole = column == 1 && rows.is_multiple_of(PANEL) && columns.is_multiple_of(DEPTH);
        whole.then_some(Self::InPlace(x, row))
    }

    fn panel(&self, i: usize) -> Panel<'_> {
        match self {
            Self::Packed(panels) => Panel::Packed(panels.panel(i)),
            Self::InPlace(x, pitch) => Panel::InPlace(&x[i * PANEL * pitch..], *pitch),
        }
    }
}

/// 32 rows of the left operand.
#[derive(Clone, Copy)]
enum Panel<'a> {
    Packed(&'a [[Tile; 2]]),
    InPlace(&'a [bf16], usize),
}

/// The packing of some panels, from `first` on.
struct Pack<'a> {
    x: &'a [bf16],
    matrix: Matrix,
    form: Form,
    first: usize,
    depth: usize,
    tiles: &'a mut [[Tile; 2]],
}

impl Work for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (i, pair) in self.tiles.iter_mut().enumerate() {
            let (panel, k) = (self.first + i / self.depth, i % self.depth * DEPTH);
            for (half, tile) in pair.iter_mut().enumerate() {
                *tile = packed(self.x, self.matrix, (panel * PANEL + half * SIDE, k), self.form);
            }
        }
    }
}

/// The tile whose first element is `(row, k)` of the matrix.
#[inline(always)]
fn packed(x: &[bf16], matrix: Matrix, (row, k): (usize, usize), form: Form) -> Tile {
    let whole = row + SIDE <= matrix.rows && k + DEPTH <= matrix.columns;
    let at = row * matrix.row + k * matrix.column;
    let pair = |first: bf16, second: bf16| u32::from(first.to_bits()) | u32::from(second.to_bits()) << 16;
    let mut tile = [[0; SIDE]; SIDE];
    let found = if whole && matrix.column == 1 {
        for (i, tile) in tile.iter_mut().enumerate() {
            let from = at + i * matrix.row;
            let (pairs, _) = x[from..from + DEPTH].as_chunks::<2>();
            tile.iter_mut().zip(pairs).for_each(|(to, &[first, second])| *to = pair(first, second));
        }
        Form::Rows
    } else if whole && matrix.row == 1 {
        for (p, tile) in tile.iter_mut().enumerate() {
            let first = at + 2 * p * matrix.column;
            let (first, second) = (&x[first..first + SIDE], &x[first + matrix.column..][..SIDE]);
            let pairs = first.iter().zip(second);
            tile.iter_mut().zip(pairs).for_each(|(to, (&first, &second))| *to = pair(first, second));
        }
        Form::Pairs
    } else {
        let element = |i: usize, l: usize| match i < matrix.rows && l < matrix.columns {
            true => x[i * matrix.row + l * matrix.column],
            false => bf16::ZERO,
        };
        for (i, tile) in tile.iter_mut().enumerate() {
            for (p, to) in tile.iter_mut().enumerate() {
                *to = pair(element(row + i, k + 2 * p), element(row + i, k + 2 * p + 1));
            }
        }
        Form::Rows
    };
    if found == form { tile } else { std::array::from_fn(|i| std::array::from_fn(|j| tile[j][i])) }
}

/// Some rows of a product: those of the panels from `first` on.
struct Block<'a, O> {
    amx: Amx,
    a: &'a Left<'a>,
    b: &'a Panels,
    first: usize,
    columns: usize,
    then: Then<'a, f32, O>,
    out: &'a mut [O],
}

impl<O: Stored<f32>> Work for Block<'_, O> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let rows = self.out.len() / self.columns;
        let before = self.first * PANEL * self.columns;
        let mut block = [[0f32; PANEL]; PANEL];
        for j in (0..self.columns).step_by(PANEL) {
            let b = self.b.panel(j / PANEL);
            let width = PANEL.min(self.columns - j);
            for i in (0..rows).step_by(PANEL) {
                self.amx.block(self.a.panel(self.first + i / PANEL), b, &mut block);
                for (r, row) in block.iter_mut().enumerate().take(rows - i) {
                    let at = (i + r) * self.columns + j;
                    let to = &mut self.out[at..at + width];
                    self.then.write(simd, &mut row[..width], (before + at, j), to);
                }
            }
        }
    }
}
