//! A tensor's storage as a value: what was computed off the graph moves into it without a copy.

use std::cell::RefCell;

#[cfg(feature = "cuda")]
use candle_core::cuda_backend::{CudaStorage, CudaStorageSlice};
use candle_core::{CpuStorage, InplaceOp1, Layout, Storage, Tensor};

use crate::{Error, Result};

/// The storage of `tensor`, which nobody else holds a tensor over: one that still did would be left with nothing.
///
/// Elements that are not the whole storage in the order of the shape are copied.
///
/// # Errors
///
/// [`Error::Device`] where candle or the device fails.
pub fn into_storage(tensor: Tensor) -> Result<Storage> {
    let candle = |error: candle_core::Error| Error::Device {
        op: "move of a value".into(),
        message: error.to_string(),
    };
    if tensor.elem_count() == 0 {
        // candle takes the strides of no elements for elements that overlap.
        let nothing = Tensor::zeros(0, tensor.dtype(), tensor.device()).map_err(candle)?;
        let (storage, layout) = nothing.storage_and_layout();
        return storage.try_clone(layout).map_err(candle);
    }
    let whole = tensor.is_contiguous() && tensor.layout().start_offset() == 0 && {
        let (storage, _) = tensor.storage_and_layout();
        length(&storage) == Some(tensor.elem_count())
    };
    let tensor = if whole { tensor } else { tensor.force_contiguous().map_err(candle)? };
    let door = Door::default();
    tensor.inplace_op1(&door).map_err(candle)?;
    if let Some(storage) = door.0.into_inner() {
        return Ok(storage);
    }
    let (storage, layout) = tensor.storage_and_layout();
    storage.try_clone(layout).map_err(candle)
}

/// How many elements a storage has; none where it is not told.
fn length(storage: &Storage) -> Option<usize> {
    Some(match storage {
        Storage::Cpu(CpuStorage::U8(x)) => x.len(),
        Storage::Cpu(CpuStorage::U32(x)) => x.len(),
        Storage::Cpu(CpuStorage::I64(x)) => x.len(),
        Storage::Cpu(CpuStorage::F16(x)) => x.len(),
        Storage::Cpu(CpuStorage::BF16(x)) => x.len(),
        Storage::Cpu(CpuStorage::F32(x)) => x.len(),
        Storage::Cpu(CpuStorage::F64(x)) => x.len(),
        #[cfg(feature = "cuda")]
        Storage::Cuda(storage) => match &storage.slice {
            CudaStorageSlice::U8(x) => x.len(),
            CudaStorageSlice::U32(x) => x.len(),
            CudaStorageSlice::I64(x) => x.len(),
            CudaStorageSlice::F16(x) => x.len(),
            CudaStorageSlice::BF16(x) => x.len(),
            CudaStorageSlice::F32(x) => x.len(),
            CudaStorageSlice::F64(x) => x.len(),
            _ => return None,
        },
        _ => return None,
    })
}

/// Where candle lets go of a storage: what is changed in place may be replaced.
#[derive(Default)]
struct Door(RefCell<Option<Storage>>);

impl InplaceOp1 for Door {
    fn name(&self) -> &'static str {
        "move of a value"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        let whole = std::mem::replace(storage, CpuStorage::U8(Vec::new()));
        self.0.replace(Some(Storage::Cpu(whole)));
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &mut CudaStorage, _: &Layout) -> candle_core::Result<()> {
        let device = storage.device.clone();
        let nothing = device.cuda_stream().null::<u8>().map_err(candle_core::Error::wrap)?;
        let nothing = CudaStorage { slice: CudaStorageSlice::U8(nothing), device };
        self.0.replace(Some(Storage::Cuda(std::mem::replace(storage, nothing))));
        Ok(())
    }

    fn metal_fwd(&self, _: &mut candle_core::MetalStorage, _: &Layout) -> candle_core::Result<()> {
        // It stays, and the caller copies it.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn pointer(storage: &Storage) -> *const f32 {
        match storage {
            Storage::Cpu(CpuStorage::F32(x)) => x.as_ptr(),
            _ => std::ptr::null(),
        }
    }

    #[test]
    fn a_storage_moves_and_a_part_of_one_is_copied() {
        let x = Tensor::arange(0f32, 6., &Device::Cpu).unwrap();
        let before = pointer(&x.storage_and_layout().0);
        assert_eq!(pointer(&into_storage(x).unwrap()), before);

        let x = Tensor::arange(0f32, 6., &Device::Cpu).unwrap();
        for part in [x.narrow(0, 2, 3).unwrap(), x.narrow(0, 0, 2).unwrap()] {
            let want = part.to_vec1::<f32>().unwrap();
            let Storage::Cpu(CpuStorage::F32(got)) = into_storage(part).unwrap() else { panic!("f32 stays") };
            assert_eq!(got, want);
        }
        let turned = x.reshape((2, 3)).unwrap().t().unwrap();
        let Storage::Cpu(CpuStorage::F32(got)) = into_storage(turned).unwrap() else { panic!("f32 stays") };
        assert_eq!(got, [0., 3., 1., 4., 2., 5.]);
        assert_eq!(x.to_vec1::<f32>().unwrap().len(), 6, "what was copied from is whole");
    }

    #[test]
    fn nothing_and_one_number_move_too() {
        for shape in [vec![], vec![0], vec![2, 0]] {
            let x = Tensor::zeros(shape, DType::BF16, &Device::Cpu).unwrap();
            let count = x.elem_count();
            assert_eq!(length(&into_storage(x).unwrap()), Some(count));
        }
    }
}
