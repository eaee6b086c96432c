//! Where a tensor's elements are on the device, after checking that they are what a kernel takes them for.

use super::device;
use crate::buffer::ScalarType;
use crate::{Error, Result};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DevicePtrMut};
use candle_core::cuda_backend::{CudaStorage, CudaStorageSlice};
use candle_core::{CpuStorage, CudaDevice, DType, Device, InplaceOp1, Layout, Storage, Tensor};
use std::cell::Cell;

/// `DType` in `multi_tensor.cuh`; `None` for what is no float.
pub(crate) fn float_code(of: ScalarType) -> Option<u64> {
    match of {
        ScalarType::F32 => Some(0),
        ScalarType::F16 => Some(1),
        ScalarType::Bf16 => Some(2),
        ScalarType::F64 => Some(3),
        _ => None,
    }
}

/// `DType` in `multi_tensor.cuh`.
pub(crate) fn dtype_code(op: &'static str, dtype: DType) -> Result<u64> {
    match dtype {
        DType::F32 => Ok(0),
        DType::F16 => Ok(1),
        DType::BF16 => Ok(2),
        DType::F64 => Ok(3),
        other => Err(Error::Operand {
            op,
            argument: "a tensor",
            expected: "of dtype f16, bf16, f32 or f64".into(),
            got: format!("{other:?}"),
        }),
    }
}

/// The address of the first element, for a kernel that reads.
pub(crate) fn read_address(
    op: &'static str,
    argument: &'static str,
    on: &CudaDevice,
    tensor: &Tensor,
) -> Result<u64> {
    check(op, argument, on, tensor)?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else { return Err(not_on(op, argument, tensor)) };
    let stream = on.cuda_stream();
    let base = match &storage.slice {
        CudaStorageSlice::F32(slice) => slice_address(slice, &stream),
        CudaStorageSlice::F16(slice) => slice_address(slice, &stream),
        CudaStorageSlice::BF16(slice) => slice_address(slice, &stream),
        CudaStorageSlice::F64(slice) => slice_address(slice, &stream),
        _ => dtype_code(op, tensor.dtype())?,
    };
    Ok(base + offset(layout, tensor.dtype()))
}

/// The address of the first element, for a kernel that writes.
///
/// It is taken under the storage's write lock and through candle's door for mutation, which refuses a tensor whose
/// elements overlap. The lock is gone when this returns: what orders the kernel's writes with everybody else's reads is
/// the stream.
pub(crate) fn write_address(
    op: &'static str,
    argument: &'static str,
    on: &CudaDevice,
    tensor: &Tensor,
) -> Result<u64> {
    check(op, argument, on, tensor)?;
    let address = Address { stream: &on.cuda_stream(), base: Cell::new(0) };
    tensor.inplace_op1(&address).map_err(device(op))?;
    Ok(address.base.get() + offset(tensor.layout(), tensor.dtype()))
}

/// The address of a slice that a kernel on `stream` reads or writes.
pub(crate) fn slice_address<T>(slice: &CudaSlice<T>, stream: &CudaStream) -> u64 {
    slice.device_ptr(stream).0
}

fn offset(layout: &Layout, dtype: DType) -> u64 {
    (layout.start_offset() * dtype.size_in_bytes()) as u64
}

fn check(op: &'static str, argument: &'static str, on: &CudaDevice, tensor: &Tensor) -> Result<()> {
    match tensor.device() {
        Device::Cuda(device) if device.id() == on.id() => {}
        _ => return Err(not_on(op, argument, tensor)),
    }
    if !tensor.is_contiguous() {
        let (expected, got) = ("contiguous".into(), format!("strided as {:?}", tensor.stride()));
        return Err(Error::Operand { op, argument, expected, got });
    }
    Ok(())
}

fn not_on(op: &'static str, argument: &'static str, tensor: &Tensor) -> Error {
    let got = format!("on {:?}", tensor.device().location());
    Error::Operand { op, argument, expected: "on the optimizer's CUDA device".into(), got }
}

struct Address<'a> {
    stream: &'a CudaStream,
    base: Cell<u64>,
}

impl InplaceOp1 for Address<'_> {
    fn name(&self) -> &'static str {
        "device address"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        candle_core::bail!("a CPU tensor has no device address")
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, _: &Layout) -> candle_core::Result<()> {
        self.base.set(match &mut storage.slice {
            CudaStorageSlice::F32(slice) => slice.device_ptr_mut(self.stream).0,
            CudaStorageSlice::F16(slice) => slice.device_ptr_mut(self.stream).0,
            CudaStorageSlice::BF16(slice) => slice.device_ptr_mut(self.stream).0,
            CudaStorageSlice::F64(slice) => slice.device_ptr_mut(self.stream).0,
            _ => candle_core::bail!("not a tensor of f16, bf16, f32 or f64"),
        });
        Ok(())
    }
}
