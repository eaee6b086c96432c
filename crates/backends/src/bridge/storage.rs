//! Candle's storage and dtypes as those of kernels.

use candle_core::{CpuStorage, DType, Device, Storage};
#[cfg(feature = "cuda")]
use candle_core::{Tensor, op::BackpropOp};

#[cfg(feature = "cuda")]
use crate::Error;
use crate::Result;
use crate::buffer::{ScalarType, Slice, SliceMut};
#[cfg(feature = "cuda")]
use crate::cuda::memory;
use crate::heap::fresh;

/// Fresh memory: what it holds means nothing.
pub(super) fn allocate(
    op: &'static str,
    device: &Device,
    of: ScalarType,
    len: usize,
) -> Result<Option<Storage>> {
    let _ = op;
    Ok(match device {
        Device::Cpu => Some(Storage::Cpu(match of {
            ScalarType::F16 => CpuStorage::F16(fresh(len)),
            ScalarType::Bf16 => CpuStorage::BF16(fresh(len)),
            ScalarType::F32 => CpuStorage::F32(fresh(len)),
            ScalarType::F64 => CpuStorage::F64(fresh(len)),
            ScalarType::I64 => CpuStorage::I64(fresh(len)),
            ScalarType::U32 => CpuStorage::U32(fresh(len)),
            ScalarType::U8 => CpuStorage::U8(fresh(len)),
        })),
        #[cfg(feature = "cuda")]
        Device::Cuda(gpu) => Some(Storage::Cuda(memory::allocate(op, gpu, of, len)?)),
        _ => None,
    })
}

/// A tensor like `x`, a float on a CUDA device, for a kernel that writes each element.
#[cfg(feature = "cuda")]
pub(crate) fn fresh_like(op: &'static str, x: &Tensor) -> Result<Tensor> {
    let made = match scalar_type(x.dtype()) {
        Some(of) => allocate(op, x.device(), of, x.elem_count())?,
        None => None,
    };
    let storage = made.ok_or_else(|| Error::Operand {
        op,
        argument: "x",
        expected: "a float on a CUDA device".into(),
        got: format!("{:?} on {:?}", x.dtype(), x.device().location()),
    })?;
    Ok(Tensor::from_storage(storage, x.shape(), BackpropOp::none(), false))
}

pub(crate) fn scalar_type(dtype: DType) -> Option<ScalarType> {
    Some(match dtype {
        DType::F16 => ScalarType::F16,
        DType::BF16 => ScalarType::Bf16,
        DType::F32 => ScalarType::F32,
        DType::F64 => ScalarType::F64,
        DType::I64 => ScalarType::I64,
        DType::U32 => ScalarType::U32,
        DType::U8 => ScalarType::U8,
        _ => return None,
    })
}

pub(super) fn slice(storage: &CpuStorage) -> Option<Slice<'_>> {
    Some(match storage {
        CpuStorage::F16(x) => Slice::F16(x),
        CpuStorage::BF16(x) => Slice::Bf16(x),
        CpuStorage::F32(x) => Slice::F32(x),
        CpuStorage::F64(x) => Slice::F64(x),
        CpuStorage::I64(x) => Slice::I64(x),
        CpuStorage::U32(x) => Slice::U32(x),
        CpuStorage::U8(x) => Slice::U8(x),
        _ => return None,
    })
}

pub(super) fn slice_mut(storage: &mut CpuStorage) -> Option<SliceMut<'_>> {
    Some(match storage {
        CpuStorage::F16(x) => SliceMut::F16(x),
        CpuStorage::BF16(x) => SliceMut::Bf16(x),
        CpuStorage::F32(x) => SliceMut::F32(x),
        CpuStorage::F64(x) => SliceMut::F64(x),
        CpuStorage::I64(x) => SliceMut::I64(x),
        CpuStorage::U32(x) => SliceMut::U32(x),
        CpuStorage::U8(x) => SliceMut::U8(x),
        _ => return None,
    })
}
