//! The launches.

#![expect(unsafe_code, reason = "launching a kernel")]

use super::Windows;
use crate::Result;
use crate::buffer::{In, Out, Ran, ScalarType, Why};
use crate::cuda::rows::{on_device, on_device_mut};
use crate::cuda::{BLOCK, DeviceSlice, Kernel, Module, module};

const MODULE: Module = module!("max_pool");

/// Elements that a thread has at once, where channels come in as many.
const UNIT: usize = 8;
/// Blocks of a launch.
const GRID: u64 = 1 << 20;

pub(super) fn largest(windows: &Windows, x: &In<'_>, out: &mut Out<'_>, taps: &mut Out<'_>) -> Result<Ran> {
    let of = (x.scalar_type(), taps.scalar_type());
    if of.0 != out.scalar_type() || of.1 != ScalarType::U8 || !x.is_contiguous() {
        return Ok(Ran::Composed(Why::Dtype("x")));
    }
    let (Some(x), Some(out), Some(taps)) = (on_device(x), on_device_mut(out), on_device_mut(taps)) else {
        return Ok(Ran::Composed(Why::Device));
    };
    launch("forward", of.0, windows, windows.out(), [x, out, taps])
}

pub(super) fn gradient(windows: &Windows, dy: &In<'_>, taps: &In<'_>, dx: &mut Out<'_>) -> Result<Ran> {
    let of = (dy.scalar_type(), taps.scalar_type());
    let contiguous = dy.is_contiguous() && taps.is_contiguous();
    if of.0 != dx.scalar_type() || of.1 != ScalarType::U8 || !contiguous {
        return Ok(Ran::Composed(Why::Dtype("dy")));
    }
    let (Some(dy), Some(dx), Some(taps)) = (on_device(dy), on_device_mut(dx), on_device(taps)) else {
        return Ok(Ran::Composed(Why::Device));
    };
    launch("backward", of.0, windows, windows.dims, [dy, dx, taps])
}

/// Launches over what is written, `made`.
fn launch(
    what: &str,
    of: ScalarType,
    windows: &Windows,
    made: [usize; 4],
    [x, out, taps]: [DeviceSlice<'_>; 3],
) -> Result<Ran> {
    let name = match of {
        ScalarType::F16 => "f16",
        ScalarType::Bf16 => "bf16",
        ScalarType::F32 => "f32",
        ScalarType::F64 => "f64",
        _ => return Ok(Ran::Composed(Why::Dtype("x"))),
    };
    let aligned = [x, out].iter().all(|slice| slice.address().is_multiple_of(16))
        && taps.address().is_multiple_of(UNIT as u64);
    let unit = if made[3].is_multiple_of(UNIT) && aligned { UNIT } else { 1 };
    let word = |low: usize, high: usize| low as u64 | (high as u64) << 32;
    let [outer, height, width, inner] = windows.dims;
    let args = [
        x.address(),
        taps.address(),
        out.address(),
        word(outer, height),
        word(width, inner),
        word(windows.count[0], windows.count[1]),
        word(windows.kernel[0], windows.kernel[1]),
        word(windows.stride[0], windows.stride[1]),
        word(windows.padding[0], windows.padding[1]),
    ];
    let units = made.iter().product::<usize>() / unit;
    let blocks = (units as u64).div_ceil(u64::from(BLOCK)).min(GRID);
    let kernel = Kernel::load(x.gpu(), MODULE, &format!("max_pool_{what}_{unit}_{name}"))?;
    // SAFETY: `args` is `Args`, whose numbers fit 32 bits; `x`, `taps` and `out` have the elements that the windows' dimensions say,
    // as the caller compared.
    unsafe { kernel.launch(blocks, &args) }?;
    Ok(Ran::Kernel("max_pool, CUDA"))
}
