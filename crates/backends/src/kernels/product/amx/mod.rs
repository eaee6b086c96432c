//! bf16 by the tile unit of Intel's processors from Sapphire Rapids on (AMX): a tile is 16 rows of 64 bytes, and one
//! instruction multiplies 16 × 32 by 32 × 16 into 16 × 16 of f32.
//!
//! The right operand is packed for all threads, in panels of 16 columns. A task has some rows of the left one, which it reads where they
//! lie if rows are contiguous and whole tiles, or packs. A block of 32 × 32 of the result stays in four tiles over the whole of `k`. The
//! instructions are written out, since Rust's intrinsics for them are not stable.

#![expect(unsafe_code, reason = "instructions that were found at run time")]

mod operands;
#[cfg(test)]
mod tests;

use super::blocked::{Then, Threads};
use super::matrix::Matrix;
use crate::simd::convert::Stored;
use crate::simd::lanes::Pair;
use crate::simd::{Isa, Simd, Work};
use half::bf16;
use operands::{Left, Right};
use std::arch::asm;
use std::sync::LazyLock;

/// Rows and pairs of a tile.
const SIDE: usize = 16;
/// Rows and columns of a block.
const PANEL: usize = 2 * SIDE;
/// Terms of `k` in a tile.
const DEPTH: usize = 2 * SIDE;
/// Blocks under each other in a task.
const NEAR: usize = 4;
/// Terms of which the rows of a block, 24 KiB of them, stay in the first-level cache while all columns pass. Of more, the columns of a
/// block stay near while a task's rows pass.
const SHORT: usize = 384;

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
        let right = Right::of(b, rhs.transposed(), threads);
        let columns = rhs.columns;
        let near = if lhs.rows >= 4 * NEAR * PANEL { NEAR } else { 1 };
        let tasks = out.chunks_mut(near * PANEL * columns).enumerate().collect();
        threads.share_out(tasks, |(task, out): (usize, &mut [O])| {
            let first = task * near * PANEL;
            Isa::best().run(Blocks { amx: self, a, lhs, right: &right, first, columns, then, out });
        });
    }

    /// Has this thread's tiles hold 16 rows of 64 bytes each, as long as the result lives.
    fn configured(self) -> Configured {
        // SAFETY: the token exists, so the instruction does. The configuration is 64 bytes, and no other code uses tiles.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly)) };
        Configured(())
    }
}

/// This thread's tiles are in use.
struct Configured(());

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: there are tiles, for they were configured.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

impl Configured {
    /// Writes the products of 32 rows, so many numbers apart, with two panels.
    fn block(&self, (a, pitch): (&[bf16], usize), b: &[Pair], block: &mut [[f32; PANEL]; PANEL]) {
        let panel = b.len() / 2;
        let steps = panel / (SIDE * SIDE);
        assert!(steps > 0 && panel.is_multiple_of(SIDE * SIDE), "sums of something");
        assert!((PANEL - 1) * pitch + steps * DEPTH <= a.len(), "rows that are there");
        let (upper, left) = (a.as_ptr(), b.as_ptr());
        // SAFETY: tiles are configured. The instructions read `steps` tiles of each panel, and of the upper and the lower 16 rows, 16 times
        // 64 bytes each, which by the assertions are there, and write the four quarters of the block, whose rows are 128 bytes apart.
        // No other code of this thread uses tiles meanwhile.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{upper} + {pitch}]",
                "tileloadd tmm6, [{left} + {line}]",
                "tileloadd tmm7, [{right} + {line}]",
                "tileloadd tmm5, [{lower} + {pitch}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {upper}, 64",
                "add {lower}, 64",
                "add {left}, 1024",
                "add {right}, 1024",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{out} + {wide}], tmm0",
                "tilestored [{out} + {wide} + 64], tmm1",
                "tilestored [{out} + {wide} + 2048], tmm2",
                "tilestored [{out} + {wide} + 2112], tmm3",
                upper = inout(reg) upper => _,
                lower = inout(reg) upper.wrapping_add(SIDE * pitch) => _,
                pitch = in(reg) 2 * pitch,
                left = inout(reg) left => _,
                right = inout(reg) left.wrapping_add(panel) => _,
                line = in(reg) 64usize,
                steps = inout(reg) steps => _,
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

/// Some rows of a product, from `first` on.
struct Blocks<'a, O> {
    amx: Amx,
    a: &'a [bf16],
    lhs: Matrix,
    right: &'a Right,
    first: usize,
    columns: usize,
    then: Then<'a, f32, O>,
    out: &'a mut [O],
}

impl<O: Stored<f32>> Work for Blocks<'_, O> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { lhs, right, columns, then, out, .. } = self;
        let rows = out.len() / columns;
        let left = Left::of(simd, self.a, lhs, self.first, rows);
        let tiles = self.amx.configured();
        let mut block = [[0f32; PANEL]; PANEL];
        let mut write = |i: usize, j: usize| {
            tiles.block(left.from(i), right.panels(j), &mut block);
            let width = PANEL.min(columns - j);
            for (row, sums) in (i..rows).zip(&mut block) {
                let at = row * columns + j;
                let place = (self.first * columns + at, j);
                then.write(simd, &mut sums[..width], place, &mut out[at..at + width]);
            }
        };
        let (down, across) = ((0..rows).step_by(PANEL), (0..columns).step_by(PANEL));
        if lhs.columns > SHORT {
            across.for_each(|j| down.clone().for_each(|i| write(i, j)));
            return;
        }
        for i in down {
            for j in across.clone() {
                left.fetch(i + PANEL, lhs.columns, j / PANEL, across.len());
                write(i, j);
            }
        }
    }
}
