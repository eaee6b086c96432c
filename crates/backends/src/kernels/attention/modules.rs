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

/// The kernels for one dtype and width: the module, shared memory in bytes, the queries of a block of the first two and the keys
/// of one of the last. As the structs ending in `Shape` in the device's code have it.
#[derive(Clone, Copy)]
pub(super) struct Shared {
    pub(super) module: Module,
    pub(super) forward: usize,
    pub(super) backward_query: usize,
    pub(super) backward_key: usize,
    pub(super) queries: usize,
    pub(super) keys: usize,
}

impl Shared {
    /// `None` where there are none, or the sizes are beyond their counters or a grid.
    pub(super) fn of(attention: Attention, sizes: Sizes, inputs: Inputs<'_>) -> Option<Self> {
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
        Some(if of == ScalarType::F32 {
            Self::of_wide(module, width)
        } else {
            Self::of_narrow(module, width)
        })
    }

    /// For elements of 16 bits.
    fn of_narrow(module: Module, width: usize) -> Self {
        let (row, wide, queries) = (2 * width, width > 64, 128);
        let stage = if wide { 32 } else { 64 };
        let keys = if wide { 64 } else { 128 };
        Self {
            module,
            forward: row * (queries + 4 * stage),
            backward_query: row * (2 * queries + 4 * stage),
            backward_key: row * (2 * keys + 4 * 64) + 2 * 64 * 8,
            queries,
            keys,
        }
    }

    /// For f32.
    fn of_wide(module: Module, width: usize) -> Self {
        let row = 4 * width;
        let block = if width > 64 { 64 } else { 128 };
        let stage = if width > 96 { 16 } else { 32 };
        Self {
            module,
            forward: row * (block + 4 * 32),
            backward_query: row * (2 * block + 4 * stage),
            backward_key: row * (2 * block + 4 * stage) + 2 * stage * 8,
            queries: block,
            keys: block,
        }
    }
}
