//! Candle's device storage as the memory that kernels take.

#![expect(unsafe_code, reason = "memory that is not initialised before a kernel writes it")]

use super::{device, pool};
use crate::Result;
use crate::buffer::ScalarType;
use candle_core::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DevicePtrMut, SyncOnDrop};
use candle_core::cuda_backend::{CudaStorage, CudaStorageSlice};
use half::{bf16, f16};

/// Elements in a device's memory, which is alive and nobody else's to write while this is.
#[derive(Clone, Copy, Debug)]
pub struct DeviceSlice<'a> {
    address: u64,
    len: usize,
    gpu: &'a CudaDevice,
}

impl<'a> DeviceSlice<'a> {
    /// The number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The address of the first.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// The device, on whose stream kernels are launched.
    pub fn gpu(&self) -> &'a CudaDevice {
        self.gpu
    }
}

/// A slice, and what marks its use in the order of the stream once it is dropped: after the launch.
type Use<'a> = (ScalarType, DeviceSlice<'a>, SyncOnDrop<'a>);

/// Runs `$body` with `$x` as the slice that `$storage` holds and `$of` as its type; `None` for a type of no kernel.
macro_rules! typed {
    ($storage:expr, $x:ident, $of:ident => $body:expr) => {
        match $storage {
            CudaStorageSlice::F16($x) => {
                let $of = ScalarType::F16;
                Some($body)
            }
            CudaStorageSlice::BF16($x) => {
                let $of = ScalarType::Bf16;
                Some($body)
            }
            CudaStorageSlice::F32($x) => {
                let $of = ScalarType::F32;
                Some($body)
            }
            CudaStorageSlice::F64($x) => {
                let $of = ScalarType::F64;
                Some($body)
            }
            CudaStorageSlice::I64($x) => {
                let $of = ScalarType::I64;
                Some($body)
            }
            CudaStorageSlice::U32($x) => {
                let $of = ScalarType::U32;
                Some($body)
            }
            CudaStorageSlice::U8($x) => {
                let $of = ScalarType::U8;
                Some($body)
            }
            _ => None,
        }
    };
}

/// The storage from element `start` on, for a kernel on `stream` that reads. `None` for a type that no kernel knows.
pub(crate) fn read<'a>(storage: &'a CudaStorage, start: usize, stream: &'a CudaStream) -> Option<Use<'a>> {
    let gpu = &storage.device;
    typed!(&storage.slice, x, of => {
        let (base, used) = x.device_ptr(stream);
        (of, part(base, x.len(), start, of, gpu), used)
    })
}

/// The storage from element `start` on, for a kernel on `stream` that writes.
pub(crate) fn write<'a>(
    storage: &'a mut CudaStorage,
    start: usize,
    stream: &'a CudaStream,
) -> Option<Use<'a>> {
    let gpu = &storage.device;
    typed!(&mut storage.slice, x, of => {
        let len = x.len();
        let (base, used) = x.device_ptr_mut(stream);
        (of, part(base, len, start, of, gpu), used)
    })
}

fn part(base: u64, len: usize, start: usize, of: ScalarType, gpu: &CudaDevice) -> DeviceSlice<'_> {
    let start = start.min(len);
    DeviceSlice { address: base + (start * of.bytes()) as u64, len: len - start, gpu }
}

/// Memory for `len` elements, of which a kernel is to write every one.
pub(crate) fn allocate(op: &str, gpu: &CudaDevice, of: ScalarType, len: usize) -> Result<CudaStorage> {
    pool::keep(gpu);
    // An allocation of no elements has no address.
    let len = len.max(1);
    // SAFETY: no element is read before it is written. The storage leaves the bridge only once a kernel has said that it
    // ran, and one that says so has written every element of its outputs: the conformance tests start from poisoned
    // memory.
    unsafe fn fresh<T>(op: &str, gpu: &CudaDevice, len: usize) -> Result<CudaSlice<T>>
    where
        T: candle_core::cuda_backend::cudarc::driver::DeviceRepr,
    {
        // SAFETY: the caller's promise.
        unsafe { gpu.alloc::<T>(len) }.map_err(device(op))
    }
    // SAFETY: as above.
    let slice = unsafe {
        match of {
            ScalarType::F16 => CudaStorageSlice::F16(fresh::<f16>(op, gpu, len)?),
            ScalarType::Bf16 => CudaStorageSlice::BF16(fresh::<bf16>(op, gpu, len)?),
            ScalarType::F32 => CudaStorageSlice::F32(fresh(op, gpu, len)?),
            ScalarType::F64 => CudaStorageSlice::F64(fresh(op, gpu, len)?),
            ScalarType::I64 => CudaStorageSlice::I64(fresh(op, gpu, len)?),
            ScalarType::U32 => CudaStorageSlice::U32(fresh(op, gpu, len)?),
            ScalarType::U8 => CudaStorageSlice::U8(fresh(op, gpu, len)?),
        }
    };
    Ok(CudaStorage { slice, device: gpu.clone() })
}

/// Memory for `len` f64 that kernels leave to each other, freed in the order of the stream.
pub(crate) fn scratch(op: &str, gpu: &CudaDevice, len: usize) -> Result<CudaSlice<f64>> {
    // SAFETY: its one use is that a kernel reads what the kernel before it has written.
    unsafe { gpu.alloc::<f64>(len.max(1)) }.map_err(device(op))
}
