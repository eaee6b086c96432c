//! bf16 by the tile unit of Intel's processors from Sapphire Rapids on (AMX): a tile is 16 rows of 64 bytes, and one
//! instruction multiplies 16 × 32 by 32 × 16 into 16 × 16 of f32.
//!
//! Operands are packed in panels of 16 lanes: the shorter one for all threads, and of the other a task packs two blocks. A block of 32 × 32 of
//! the result stays in four tiles over the whole of `k`, or a run of [`LONG`] terms where the output is of f32. A task's blocks pass
//! those of the shared operand one by one, while the next is fetched from the third level of the cache. The instructions are written out, since
//! Rust's intrinsics for them are not stable.

#![expect(unsafe_code, reason = "instructions that were found at run time")]

mod operands;
#[cfg(test)]
mod tests;

use super::blocked::{Finish, Lies, Operand, Output, Plus, Then, Turned, left_is_shared, steps};
use super::unit::Multiply;
use crate::simd::convert::Stored;
use crate::simd::lanes::Pair;
use crate::simd::{Isa, Simd, Work};
use crate::threads::Threads;
use operands::{Role, TILE, Tiles};
use std::arch::asm;
use std::ops::Range;
use std::sync::LazyLock;

/// Rows and pairs of a tile.
const SIDE: usize = 16;
/// Rows and columns of a block.
const BLOCK: usize = 2 * SIDE;
/// Terms of `k` in a tile.
const DEPTH: usize = 2 * SIDE;
/// Blocks of a task's own operand: with 256 terms they stay in the first-level cache.
const NEAR: usize = 2;
/// Terms whose panels are in memory at once, if there are more: those of 256 columns are 1 MiB.
const LONG: usize = 2048;

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
    /// Writes the products of two panels with two, and has one more fetched.
    fn block(&self, a: &[Pair], b: &[Pair], next: &[Pair], block: &mut [[f32; BLOCK]; BLOCK]) {
        let panel = a.len() / 2;
        let steps = panel / TILE;
        assert!(steps > 0 && panel.is_multiple_of(TILE) && b.len() == a.len(), "sums of something");
        let (upper, left) = (a.as_ptr(), b.as_ptr());
        // SAFETY: tiles are configured. The instructions read `steps` tiles of each panel, 16 times 64 bytes each, which by the
        // assertion are there, and write the four quarters of the block, whose rows are 128 bytes apart. Fetching reads nothing. No
        // other code of this thread uses tiles meanwhile.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm6, [{left} + {line}]",
                "tileloadd tmm4, [{upper} + {line}]",
                "tileloadd tmm7, [{right} + {line}]",
                "tileloadd tmm5, [{lower} + {line}]",
                ".irp at, 0, 64, 128, 192, 256, 320, 384, 448, 512, 576, 640, 704, 768, 832, 896, 960",
                "prefetcht1 [{next} + \\at]",
                ".endr",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {upper}, 1024",
                "add {lower}, 1024",
                "add {left}, 1024",
                "add {right}, 1024",
                "add {next}, 1024",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{out} + {wide}], tmm0",
                "tilestored [{out} + {wide} + 64], tmm1",
                "tilestored [{out} + {wide} + 2048], tmm2",
                "tilestored [{out} + {wide} + 2112], tmm3",
                upper = inout(reg) upper => _,
                lower = inout(reg) upper.wrapping_add(panel) => _,
                left = inout(reg) left => _,
                right = inout(reg) left.wrapping_add(panel) => _,
                next = inout(reg) next.as_ptr() => _,
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

impl Multiply<Pair> for Amx {
    fn most_numbers(self) -> usize {
        4 * LONG
    }

    fn multiply<O: Stored<f32>>(
        self,
        a: impl Operand<Pair>,
        b: impl Operand<Pair>,
        then: Then<'_, f32, O>,
        (out, lies): (&mut [O], Lies),
        threads: Threads,
    ) {
        let numbers = a.numbers();
        assert_eq!(b.numbers(), numbers, "a product");
        let out = Output::new(out, lies, [a.lanes(), b.lanes()], Turned::Not);
        // An output of sums is added to.
        let run = if size_of::<O>() == size_of::<f32>() { LONG } else { numbers.max(1) };
        for of in steps(numbers, run) {
            let then = match of.start {
                0 => then,
                _ => Then { row: None, plus: Plus::Output, ..then },
            };
            Product { amx: self, a, b, of, finish: Finish { out: &out, then }, threads }.multiply();
        }
    }
}

/// The products of some numbers of each lane.
struct Product<'a, A, B, O> {
    amx: Amx,
    a: A,
    b: B,
    of: Range<usize>,
    finish: Finish<'a, f32, O>,
    threads: Threads,
}

impl<A: Operand<Pair>, B: Operand<Pair>, O: Stored<f32>> Product<'_, A, B, O> {
    fn multiply(self) {
        let Self { amx, a, b, of, finish, threads } = self;
        let pack = |role, lanes, threads| match role {
            Role::Left => Tiles::of(role, a, lanes, of.clone(), threads),
            Role::Right => Tiles::of(role, b, lanes, of.clone(), threads),
        };
        let (rows, columns) = ((Role::Left, a.lanes()), (Role::Right, b.lanes()));
        let (shared, (own, lanes)) =
            if left_is_shared([rows.1, columns.1]) { (rows, columns) } else { (columns, rows) };
        let far = pack(shared.0, 0..shared.1, threads);
        let near = if lanes >= 4 * NEAR * BLOCK { NEAR } else { 1 };
        threads.share_out(steps(lanes, near * BLOCK).collect(), |lanes: Range<usize>| {
            let near = pack(own, lanes.clone(), Threads::One);
            Isa::best().run(Blocks { amx, far: (&far, shared.1), near: (&near, lanes), own, finish });
        });
    }
}

/// The blocks of a task.
struct Blocks<'a, O> {
    amx: Amx,
    /// The shared operand, and how many lanes it has.
    far: (&'a Tiles, usize),
    /// The task's own, and which lanes of the operand these are.
    near: (&'a Tiles, Range<usize>),
    /// Which operand the task's own lanes are of.
    own: Role,
    finish: Finish<'a, f32, O>,
}

impl<O: Stored<f32>> Work for Blocks<'_, O> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { far: (shared, all), near: (own, lanes), finish, .. } = self;
        let tiles = self.amx.configured();
        let mut sums = [[0f32; BLOCK]; BLOCK];
        let each = lanes.len().div_ceil(BLOCK);
        // One loop: what is called from two places is not part of the function that has the instructions.
        for block in 0..all.div_ceil(BLOCK) * each {
            let (far, near) = (block / each, block % each);
            let next = shared.panel(2 * (far + 1) + near % 2);
            let there = [all - far * BLOCK, lanes.len() - near * BLOCK].map(|lanes| lanes.min(BLOCK));
            let at = [far * BLOCK, lanes.start + near * BLOCK];
            let (far, near) = (shared.block(far), own.block(near));
            // Rows and columns.
            let ([left, right], at, size) = match self.own {
                Role::Right => ([far, near], at, there),
                Role::Left => ([near, far], [at[1], at[0]], [there[1], there[0]]),
            };
            tiles.block(left, right, next, &mut sums);
            finish.tile(simd, (sums.as_flattened_mut(), BLOCK), at, size);
        }
    }
}
