//! The one place where candle's storage is opened: [`run`] and [`update`] hand tensors to kernels as the buffers that they
//! take, on any device. [`with_floats`] is the older door for kernels over slices, on the CPU.

mod call;
mod heard;
mod recording;
mod storage;
#[cfg(test)]
mod tests;
mod transfer;

pub use call::{Call, in_rows, run, run_one, update};
pub(crate) use heard::hear;
pub use heard::kernels_of;
pub use recording::{Recording, StepGraph, record, rehearse};
#[cfg(feature = "cuda")]
pub(crate) use storage::{fresh_like, scalar_type};
pub use transfer::to_device;

use candle_core::backend::BackendStorage;
#[cfg(feature = "cuda")]
use candle_core::cuda_backend::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Storage, Tensor};
use half::{bf16, f16};

use crate::kernels::cast::{cast_f64_bf16, cast_f64_f16};
use crate::{Error, Floats, Result};

/// Runs `f` on the elements of `tensors`, in the order of their shapes. A tensor that is not contiguous is copied first.
///
/// # Errors
///
/// [`Error::Operand`] for a tensor that is not on the CPU or not of f16, bf16, f32 or f64, with `op` as its name.
pub fn with_floats<const N: usize, R>(
    op: &'static str,
    tensors: [&Tensor; N],
    f: impl FnOnce([Floats<'_>; N]) -> R,
) -> Result<R> {
    with_list_of_floats(op, &tensors, |list| f(std::array::from_fn(|i| list[i])))
}

/// [`with_floats`] for a number of tensors that is known at run time only.
///
/// # Errors
///
/// As for [`with_floats`].
pub fn with_list_of_floats<R>(
    op: &'static str,
    tensors: &[&Tensor],
    f: impl FnOnce(&[Floats<'_>]) -> R,
) -> Result<R> {
    let operand = |expected: &str, got: String| Error::Operand {
        op,
        argument: "a tensor",
        expected: expected.to_string(),
        got,
    };
    let contiguous =
        tensors.iter().map(|tensor| tensor.contiguous()).collect::<candle_core::Result<Vec<_>>>();
    let contiguous = contiguous.map_err(candle(op))?;
    let guards: Vec<_> = contiguous.iter().map(Tensor::storage_and_layout).collect();
    let mut slices = Vec::with_capacity(tensors.len());
    for (storage, layout) in &guards {
        let Storage::Cpu(storage) = &**storage else {
            return Err(operand("on the CPU", "on another device".to_string()));
        };
        let Some(whole) = floats(storage) else {
            return Err(operand("of f16, bf16, f32 or f64", format!("{:?}", storage_dtype(storage))));
        };
        let range = layout.contiguous_offsets().map(|(start, end)| start..end);
        let slice = range.and_then(|range| whole.get(range));
        slices.push(slice.ok_or_else(|| operand("contiguous", "strided".to_string()))?);
    }
    hear(op, &crate::buffer::Ran::Kernel(op));
    Ok(f(&slices))
}

/// `tensor` in another dtype, rounded once, on any device and with a gradient: candle's own cast of an f64 to 16 bits goes
/// by way of an f32, and rounds twice.
///
/// # Errors
///
/// [`Error::Device`] where candle or the device fails.
pub fn cast(tensor: &Tensor, dtype: DType) -> Result<Tensor> {
    // What a GPU is to gather first, candle casts as it gathers.
    let in_place = tensor.device().is_cpu() || tensor.is_contiguous();
    let takes = |of| matches!(of, DType::F16 | DType::BF16 | DType::F32);
    if in_place && takes(tensor.dtype()) && takes(dtype) && !tensor.track_op() && tensor.dtype() != dtype {
        let x = in_rows("cast", tensor, tensor.elem_count())?;
        let output = (x.shape().clone(), dtype);
        let call = run_one("cast", &[&x], output, |ins, out| crate::kernels::cast::convert(&ins[0], out))?;
        if let Some(cast) = call.ran() {
            return Ok(cast);
        }
    }
    let cast = match (tensor.dtype(), dtype) {
        (DType::F64, DType::F16 | DType::BF16) => {
            tensor.contiguous().and_then(|tensor| tensor.apply_op1(CastF64(dtype)))
        }
        _ => tensor.to_dtype(dtype),
    };
    cast.map_err(candle("cast"))
}

/// Whether `cast` is to the bit what [`cast`](cast()) makes of `tensor`: f32 on the CPU, and of 16 bits.
///
/// # Errors
///
/// [`Error::Operand`] for a tensor that is not on the CPU.
pub fn is_cast(tensor: &Tensor, cast: &Tensor) -> Result<bool> {
    with_floats("cast", [tensor, cast], |[x, cast]| match x {
        Floats::F32(x) => crate::kernels::cast::is_cast(x, cast),
        _ => false,
    })
}

pub(crate) fn candle(op: &str) -> impl Fn(candle_core::Error) -> Error {
    move |error| Error::Device { op: op.to_string(), message: error.to_string() }
}

/// From f64 to the 16-bit dtype. Its input is contiguous.
struct CastF64(DType);

impl CustomOp1 for CastF64 {
    fn name(&self) -> &'static str {
        "cast of f64"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (start, end) = layout.contiguous_offsets().unwrap_or_default();
        let src = &storage.as_slice::<f64>()?[start..end];
        let narrow = if self.0 == DType::F16 {
            let mut dst = vec![f16::ZERO; src.len()];
            cast_f64_f16(src, &mut dst).map_err(candle_core::Error::wrap)?;
            CpuStorage::F16(dst)
        } else {
            let mut dst = vec![bf16::ZERO; src.len()];
            cast_f64_bf16(src, &mut dst).map_err(candle_core::Error::wrap)?;
            CpuStorage::BF16(dst)
        };
        Ok((narrow, layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        let narrow = crate::kernels::cast::cuda::cast_f64(storage, layout, self.0);
        Ok((narrow.map_err(candle_core::Error::wrap)?, layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(grad.to_dtype(DType::F64)?))
    }
}

fn floats(storage: &CpuStorage) -> Option<Floats<'_>> {
    match storage {
        CpuStorage::F16(x) => Some(Floats::F16(x)),
        CpuStorage::BF16(x) => Some(Floats::Bf16(x)),
        CpuStorage::F32(x) => Some(Floats::F32(x)),
        CpuStorage::F64(x) => Some(Floats::F64(x)),
        _ => None,
    }
}

fn storage_dtype(storage: &CpuStorage) -> DType {
    BackendStorage::dtype(storage)
}
