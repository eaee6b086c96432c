//! How kernels over rows are launched: which variant holds a row of some width, and in what grid.

use super::{BLOCK, Launch};
use crate::buffer::{In, Out, Place, PlaceMut, ScalarType};
use crate::cuda::DeviceSlice;

/// Elements of a unit: `UNIT` in `rows.cuh`.
pub(crate) const UNIT: usize = 8;
/// Elements that a thread holds: four units, which is `UNITS` of the users of `rows.cuh`.
const HELD: u64 = 4 * UNIT as u64;
/// Blocks of a launch; more rows are walked by these.
const GRID: u64 = 1 << 20;

/// Who holds a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// The registers of a warp.
    Warp,
    /// Those of a block.
    Block,
    /// Nobody: it is read again.
    Stream,
}

impl Holder {
    /// For rows of this many elements.
    pub(crate) fn of(width: usize) -> Self {
        match width as u64 {
            width if width <= 32 * HELD => Self::Warp,
            width if width <= u64::from(BLOCK) * HELD => Self::Block,
            _ => Self::Stream,
        }
    }

    /// As part of a kernel's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Warp => "warp",
            Self::Block => "block",
            Self::Stream => "stream",
        }
    }

    /// Blocks for so many rows.
    pub(crate) fn blocks(self, rows: usize) -> u64 {
        let per_block = if self == Self::Warp { u64::from(BLOCK) / 32 } else { 1 };
        (rows as u64).div_ceil(per_block).min(GRID)
    }
}

/// As part of a kernel's name. `None` for types that kernels over rows do not compute with.
pub(crate) fn float_name(of: ScalarType) -> Option<&'static str> {
    match of {
        ScalarType::F32 => Some("f32"),
        ScalarType::F16 => Some("f16"),
        ScalarType::Bf16 => Some("bf16"),
        ScalarType::F64 => Some("f64"),
        _ => None,
    }
}

/// Whether a buffer beside one of type `of` is of that type, and not f32. `None` where it is neither, or f32 beside f64.
pub(crate) fn narrow(of: ScalarType, beside: ScalarType) -> Option<u64> {
    match beside {
        ScalarType::F32 if of != ScalarType::F64 => Some(0),
        beside if beside == of => Some(1),
        _ => None,
    }
}

/// What is read on a device.
pub(crate) fn on_device<'a>(x: &In<'a>) -> Option<DeviceSlice<'a>> {
    match x.place() {
        Place::Device(slice) => Some(slice),
        Place::Host(_) => None,
    }
}

/// What is written on a device.
pub(crate) fn on_device_mut<'a>(x: &mut Out<'a>) -> Option<DeviceSlice<'a>> {
    match x.place() {
        PlaceMut::Device(slice) => Some(*slice),
        PlaceMut::Host(_) => None,
    }
}

/// `blocks` by `parts` blocks.
pub(crate) fn in_parts(blocks: usize, parts: usize) -> Option<Launch> {
    let grid = (u32::try_from(blocks).ok()?, u32::try_from(parts).ok().filter(|&parts| parts <= 65_535)?, 1);
    Some(Launch { grid, block: BLOCK, shared_bytes: 0 })
}
