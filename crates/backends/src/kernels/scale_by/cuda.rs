//! The launch.

#![expect(unsafe_code, reason = "launching a kernel")]

use super::OP;
use crate::Result;
use crate::buffer::{In, Out, Ran, Why};
use crate::cuda::rows::{UNIT, on_device, on_device_mut};
use crate::cuda::{BLOCK, Kernel, Module, float_code, module};

const MODULE: Module = module!("scale_by");

/// Blocks of a launch; more elements are walked by these.
const GRID: u64 = 1 << 16;

pub(super) fn scale_by(x: &In<'_>, factor: &In<'_>, out: &mut Out<'_>) -> Result<Ran> {
    let len = out.count() as u64;
    let codes = [x.scalar_type(), factor.scalar_type(), out.scalar_type()].map(float_code);
    let [Some(of_x), Some(of_factor), Some(of_out)] = codes else {
        return Ok(Ran::Composed(Why::Dtype("x")));
    };
    let (Some(x), Some(factor), Some(to)) = (on_device(x), on_device(factor), on_device_mut(out)) else {
        return Ok(Ran::Composed(Why::Device));
    };
    let dtypes = of_x | of_factor << 8 | of_out << 16;
    let args = [x.address(), factor.address(), to.address(), len, dtypes];
    let blocks = len.div_ceil(UNIT as u64 * u64::from(BLOCK)).min(GRID);
    // SAFETY: `args` is `ScaleByArgs`. `x` and the result are contiguous on one device with `len` floats of the dtypes given, and the
    // factor is one, as checked; all are freed in the order of the stream.
    unsafe { Kernel::load(to.gpu(), MODULE, OP)?.launch(blocks, &args) }?;
    Ok(Ran::Kernel(OP))
}
