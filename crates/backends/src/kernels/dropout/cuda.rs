//! The launch.

#![expect(unsafe_code, reason = "launching a kernel")]

use super::Draw;
use crate::Result;
use crate::buffer::{In, Out, Place, PlaceMut, Ran, Why};
use crate::cuda::{BLOCK, Kernel, Module, float_code, module};

const MODULE: Module = module!("dropout");

/// The place of the key in `DropoutArgs`.
const KEY: usize = 3;
/// Elements of a thread, and blocks of a launch; more elements are walked by these.
const PACK: u64 = 4;
const GRID: u64 = 1 << 16;

pub(super) fn drop_out(x: &In<'_>, draw: Draw, out: &mut Out<'_>) -> Result<Ran> {
    let Some(dtype) = float_code(x.scalar_type()) else { return Ok(Ran::Composed(Why::Dtype("x"))) };
    let len = out.count() as u64;
    let (Place::Device(from), PlaceMut::Device(to)) = (x.place(), out.place()) else {
        return Ok(Ran::Composed(Why::Device));
    };
    let args = [from.address(), to.address(), len, draw.key, draw.scale().to_bits(), draw.threshold(), dtype];
    let blocks = len.div_ceil(PACK * u64::from(BLOCK)).min(GRID);
    let kernel = Kernel::load(to.gpu(), MODULE, "dropout")?;
    // SAFETY: `args` is `DropoutArgs`. Both buffers are contiguous on one device with `len` elements of the dtype, as
    // checked, and are freed in the order of the stream.
    unsafe { kernel.launch_drawing(kernel.in_blocks(blocks)?, &args, KEY) }?;
    Ok(Ran::Kernel("dropout"))
}
