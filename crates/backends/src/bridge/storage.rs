//! Candle's storage and dtypes as those of kernels.

use candle_core::{CpuStorage, DType, Device, Storage};
use half::vec::HalfBitsVecExt;

use crate::Result;
use crate::buffer::{ScalarType, Slice, SliceMut};
#[cfg(feature = "cuda")]
use crate::cuda::memory;

/// Fresh memory: what it holds means nothing.
pub(super) fn allocate(
    op: &'static str,
    device: &Device,
    of: ScalarType,
    len: usize,
) -> Result<Option<Storage>> {
    let _ = op;
    Ok(match device {
        // Zeros that the system hands out as it does fresh pages: nothing is written twice.
        Device::Cpu => Some(Storage::Cpu(match of {
            ScalarType::F16 => CpuStorage::F16(vec![0u16; len].reinterpret_into()),
            ScalarType::Bf16 => CpuStorage::BF16(vec![0u16; len].reinterpret_into()),
            ScalarType::F32 => CpuStorage::F32(vec![0.; len]),
            ScalarType::F64 => CpuStorage::F64(vec![0.; len]),
            ScalarType::I64 => CpuStorage::I64(vec![0; len]),
            ScalarType::U32 => CpuStorage::U32(vec![0; len]),
            ScalarType::U8 => CpuStorage::U8(vec![0; len]),
        })),
        #[cfg(feature = "cuda")]
        Device::Cuda(gpu) => Some(Storage::Cuda(memory::allocate(op, gpu, of, len)?)),
        _ => None,
    })
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
