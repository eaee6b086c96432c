//! The launch.

#![expect(unsafe_code, reason = "launching a kernel")]

use crate::bridge::scalar_type;
use crate::buffer::{In, Out, Place, PlaceMut, Ran, ScalarType, Why};
use crate::cuda::{BLOCK, Kernel, Module, device, module, read_address, slice_address, write_address};
use crate::{Error, Result};
use candle_core::cuda_backend::cudarc::driver::{DeviceRepr, ValidAsZeroBits};
use candle_core::cuda_backend::{CudaDType, CudaStorage};
use candle_core::{CudaDevice, DType, Device, Layout, Tensor};
use half::{bf16, f16};

const OP: &str = "cast";
const MODULE: Module = module!("cast");

/// The kernel from one type to another.
fn name(from: ScalarType, to: ScalarType) -> Option<&'static str> {
    Some(match (from, to) {
        (ScalarType::F32, ScalarType::F16) => "cast_f32_f16",
        (ScalarType::F32, ScalarType::Bf16) => "cast_f32_bf16",
        (ScalarType::F16, ScalarType::F32) => "cast_f16_f32",
        (ScalarType::Bf16, ScalarType::F32) => "cast_bf16_f32",
        (ScalarType::F64, ScalarType::F16) => "cast_f64_f16",
        (ScalarType::F64, ScalarType::Bf16) => "cast_f64_bf16",
        _ => return None,
    })
}

/// Writes `src`, cast to the dtype of `dst`, over `dst`: f32 to or from 16 bits, or f64 to 16 bits.
///
/// # Errors
///
/// [`Error::Operand`] for other dtypes, another device than CUDA, or a tensor that is not contiguous;
/// [`Error::LengthMismatch`].
pub fn cast(src: &Tensor, dst: &Tensor) -> Result<()> {
    let of = |tensor: &Tensor| scalar_type(tensor.dtype());
    let Some(name) = of(src).zip(of(dst)).and_then(|(from, to)| name(from, to)) else {
        return Err(Error::Operand {
            op: OP,
            argument: "the dtypes",
            expected: "f32 and a 16-bit one, or f64 to a 16-bit one".into(),
            got: format!("{} to {}", src.dtype().as_str(), dst.dtype().as_str()),
        });
    };
    let (expected, got) = (src.elem_count(), dst.elem_count());
    if expected != got {
        return Err(Error::LengthMismatch { op: OP, argument: "dst", expected, got });
    }
    let Device::Cuda(candle) = src.device() else {
        let got = format!("{:?}", src.device().location());
        return Err(Error::Operand { op: OP, argument: "src", expected: "on a CUDA device".into(), got });
    };
    let args =
        [read_address(OP, "src", candle, src)?, write_address(OP, "dst", candle, dst)?, expected as u64];
    // SAFETY: the kernel's parameters are passed one by one as these three words, both tensors are contiguous on this
    // device with `expected` elements, and what frees them does so in the order of the stream.
    unsafe { Kernel::load(candle, MODULE, name)?.launch_each(blocks(expected), &args) }
}

/// [`convert`](super::convert()) between f32 and 16 bits, of contiguous buffers of as many elements.
pub(super) fn convert(x: &In<'_>, out: &mut Out<'_>) -> Result<Ran> {
    let Some(name) = name(x.scalar_type(), out.scalar_type()) else {
        return Ok(Ran::Composed(Why::Dtype("x")));
    };
    let (Place::Device(from), PlaceMut::Device(to)) = (x.place(), out.place()) else {
        return Ok(Ran::Composed(Why::Device));
    };
    let len = x.count();
    let args = [from.address(), to.address(), len as u64];
    // SAFETY: the kernel's parameters are passed one by one as these three words; both buffers are contiguous on one device
    // with `len` elements of the types of its name, and are freed in the order of the stream.
    unsafe { Kernel::load(to.gpu(), MODULE, name)?.launch_each(blocks(len), &args) }?;
    Ok(Ran::Kernel("cast"))
}

fn blocks(len: usize) -> u64 {
    (len as u64).div_ceil(4 * u64::from(BLOCK)).min(1 << 16)
}

/// The contiguous part of an f64 storage that `layout` shows, in f16 or bf16.
pub(crate) fn cast_f64(storage: &CudaStorage, layout: &Layout, dtype: DType) -> Result<CudaStorage> {
    match dtype {
        DType::F16 => narrow::<f16>(storage, layout, "cast_f64_f16"),
        _ => narrow::<bf16>(storage, layout, "cast_f64_bf16"),
    }
}

fn narrow<T>(storage: &CudaStorage, layout: &Layout, name: &str) -> Result<CudaStorage>
where
    T: CudaDType + DeviceRepr + ValidAsZeroBits,
{
    let candle: &CudaDevice = &storage.device;
    let src = storage.as_cuda_slice::<f64>().map_err(device(OP))?;
    let Some((start, end)) = layout.contiguous_offsets().filter(|&(_, end)| end <= src.len()) else {
        let (expected, got) = ("contiguous".into(), format!("strided as {:?}", layout.stride()));
        return Err(Error::Operand { op: OP, argument: "src", expected, got });
    };
    let len = end - start;
    // An allocation of no elements has no address.
    let dst = candle.alloc_zeros::<T>(len.max(1)).map_err(device(OP))?;
    let stream = candle.cuda_stream();
    let from = slice_address(src, &stream) + (start * size_of::<f64>()) as u64;
    let args = [from, slice_address(&dst, &stream), len as u64];
    // SAFETY: the kernel's parameters are passed one by one as these three words; the source has `len` elements from
    // `start` on, the destination was made with as many, and what frees them does so in the order of the stream.
    unsafe { Kernel::load(candle, MODULE, name)?.launch_each(blocks(len), &args) }?;
    Ok(CudaStorage::wrap_cuda_slice(dst, candle.clone()))
}
