//! Which module has the kernels of a dtype and width, and what they are launched with.

use super::checks::{Sizes, WIDTHS};
use super::{Attention, Inputs};
use crate::buffer::ScalarType;
use crate::cuda::{Module, module};

/// By dropout, without and with, and by width, as in [`WIDTHS`].
type Modules = [[Module; 4]; 2];

const F16: Modules = [
    [
        module!("attention_f16_32"),
        module!("attention_f16_64"),
        module!("attention_f16_96"),
        module!("attention_f16_128"),
    ],
    [
        module!("attention_f16_32_dropout"),
        module!("attention_f16_64_dropout"),
        module!("attention_f16_96_dropout"),
        module!("attention_f16_128_dropout"),
    ],
];
const BF16: Modules = [
    [
        module!("attention_bf16_32"),
        module!("attention_bf16_64"),
        module!("attention_bf16_96"),
        module!("attention_bf16_128"),
    ],
    [
        module!("attention_bf16_32_dropout"),
        module!("attention_bf16_64_dropout"),
        module!("attention_bf16_96_dropout"),
        module!("attention_bf16_128_dropout"),
    ],
];
const F32: Modules = [
    [
        module!("attention_f32_32"),
        module!("attention_f32_64"),
        module!("attention_f32_96"),
        module!("attention_f32_128"),
    ],
    [
        module!("attention_f32_32_dropout"),
        module!("attention_f32_64_dropout"),
        module!("attention_f32_96_dropout"),
        module!("attention_f32_128_dropout"),
    ],
];

/// Rows that fit the kernels' 32-bit counters with a block to spare.
const ROWS: usize = 1 << 30;

/// How one kernel is launched: rows, threads and bytes of shared memory of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocks {
    pub(super) rows: usize,
    pub(super) threads: u32,
    pub(super) shared: usize,
}

/// The kernels of one dtype and width. Their rows are queries in the first two and keys in the last.
#[derive(Clone, Copy)]
pub(super) struct Kernels {
    pub(super) module: Module,
    pub(super) forward: Blocks,
    pub(super) backward_query: Blocks,
    pub(super) backward_key: Blocks,
}

impl Kernels {
    /// `None` where there are none, or the sizes are beyond their counters or a grid. `capability` is the device's.
    pub(super) fn of(
        attention: Attention,
        sizes: Sizes,
        inputs: Inputs<'_>,
        capability: (i32, i32),
    ) -> Option<Self> {
        let Sizes { batch, heads, queries, keys, width } = sizes;
        let of = inputs.query.scalar_type();
        let modules = match of {
            ScalarType::F16 => &F16,
            ScalarType::Bf16 => &BF16,
            ScalarType::F32 => &F32,
            _ => return None,
        };
        let drops = attention.dropout.is_some_and(|dropout| dropout.p > 0.);
        let module = *modules[usize::from(drops)].get(WIDTHS.iter().position(|&w| w == width)?)?;
        let all = batch.checked_mul(heads)?;
        // Blocks of the smallest tile there is.
        let blocks = queries.max(keys).div_ceil(64).checked_mul(all)?;
        if queries > ROWS || keys > ROWS || all > ROWS || blocks > ROWS {
            return None;
        }
        let of = match of {
            ScalarType::F32 => Self::of_wide,
            _ if capability == (9, 0) && width % 64 == 0 => Self::of_warpgroups,
            _ => Self::of_narrow,
        };
        Some(of(module, width))
    }

    /// For elements of 16 bits by `wgmma`: `Groups` in the device's code.
    fn of_warpgroups(module: Module, width: usize) -> Self {
        const ROWS: usize = 64;
        let row = 2 * width;
        let (queries, stages, keys) = if width > 64 { (1, 2, 2) } else { (2, 3, 1) };
        let blocks = |groups: usize, rows: usize, beside: usize| Blocks {
            rows: groups * ROWS,
            threads: 128 * groups as u32,
            shared: row * ROWS * rows + beside,
        };
        Self {
            module,
            forward: blocks(queries, queries + 4, 0),
            backward_query: blocks(queries, 2 * queries + 2 * stages, 0),
            backward_key: blocks(keys, 2 * keys + 4, 2 * ROWS * 8),
        }
    }

    /// For elements of 16 bits.
    fn of_narrow(module: Module, width: usize) -> Self {
        let (row, wide, queries) = (2 * width, width > 64, 128);
        let stage = if wide { 32 } else { 64 };
        let keys = if wide { 64 } else { 128 };
        Self {
            module,
            forward: Blocks::of_warps(queries, row * (queries + 4 * stage)),
            backward_query: Blocks::of_warps(queries, row * (2 * queries + 4 * stage)),
            backward_key: Blocks::of_warps(keys, row * (2 * keys + 4 * 64) + 2 * 64 * 8),
        }
    }

    /// For f32.
    fn of_wide(module: Module, width: usize) -> Self {
        let row = 4 * width;
        let block = if width > 64 { 64 } else { 128 };
        let stage = if width > 96 { 16 } else { 32 };
        Self {
            module,
            forward: Blocks::of_warps(block, row * (block + 4 * 32)),
            backward_query: Blocks::of_warps(block, row * (2 * block + 4 * stage)),
            backward_key: Blocks::of_warps(block, row * (2 * block + 4 * stage) + 2 * stage * 8),
        }
    }
}

impl Blocks {
    /// Of `THREADS` threads, as the structs ending in `Shape` in the device's code have it.
    fn of_warps(rows: usize, shared: usize) -> Self {
        Self { rows, threads: 128, shared }
    }
}
