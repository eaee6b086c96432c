//! The launches.

#![expect(unsafe_code, reason = "launching a kernel")]

use super::{SeenBy, Sizes};
use crate::Result;
use crate::buffer::{In, Out, Place, PlaceMut, Ran, Why};
use crate::cuda::{BLOCK, Kernel, Module, float_code, module};

const MODULE: Module = module!("finite");

/// Elements of a thread, and blocks of a launch; more elements are walked by these.
const PACK: u64 = 4;
const GRID: u64 = 1 << 16;

pub(super) fn finite_or_zero(x: &In<'_>, out: &mut Out<'_>) -> Result<Ran> {
    let Some(dtype) = float_code(x.scalar_type()) else { return Ok(Ran::Composed(Why::Dtype("x"))) };
    let len = out.count() as u64;
    let (Place::Device(from), PlaceMut::Device(to)) = (x.place(), out.place()) else {
        return Ok(Ran::Composed(Why::Device));
    };
    let args = [from.address(), to.address(), len, 0, 0, 0, dtype];
    let blocks = len.div_ceil(PACK * u64::from(BLOCK)).min(GRID);
    // SAFETY: `args` is `FiniteArgs`. Both buffers are contiguous on one device with `len` elements of the dtype, as checked,
    // and are freed in the order of the stream.
    unsafe { Kernel::load(to.gpu(), MODULE, "finite_or_zero")?.launch(blocks, &args) }?;
    Ok(Ran::Kernel("finite"))
}

pub(super) fn spread(x: &In<'_>, by: SeenBy, sizes: Sizes, target: &mut Out<'_>) -> Result<Ran> {
    let Some(dtype) = float_code(x.scalar_type()) else { return Ok(Ran::Composed(Why::Dtype("x"))) };
    let (Place::Device(from), PlaceMut::Device(to)) = (x.place(), target.place()) else {
        return Ok(Ran::Composed(Why::Device));
    };
    let Sizes { rows, into, width } = sizes;
    let len = x.count() as u64;
    let later = u64::from(by == SeenBy::Later);
    let sizes = [rows, into, width].map(|size| size as u64);
    let args = [from.address(), to.address(), len, sizes[0], sizes[1], sizes[2], dtype | later << 32];
    let blocks = len.div_ceil(u64::from(BLOCK)).min(GRID);
    // SAFETY: `args` is `FiniteArgs`. `x` has `rows` and the target `into` rows for each matrix, as checked; both are
    // contiguous on one device, and are freed in the order of the stream.
    unsafe { Kernel::load(to.gpu(), MODULE, "finite_spread")?.launch(blocks, &args) }?;
    Ok(Ran::Kernel("finite"))
}
