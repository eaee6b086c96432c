//! A tensor on another device.

use candle_core::{Device, Tensor};

use super::candle;
use crate::Result;

/// `tensor` on `device`, part of no graph where it had to be moved.
///
/// With the feature `cuda`, what goes from the host to a CUDA device goes by way of page-locked memory, up to 64 MiB at a time: the host
/// does not wait for the device, unless sixteen such transfers are under way. Anything else is candle's own copy.
///
/// # Errors
///
/// [`Error::Device`](crate::Error::Device) where the device has no memory left or fails.
pub fn to_device(tensor: &Tensor, device: &Device) -> Result<Tensor> {
    if tensor.device().same_device(device) {
        return Ok(tensor.clone());
    }
    #[cfg(feature = "cuda")]
    if let (Device::Cpu, Device::Cuda(gpu)) = (tensor.device(), device)
        && let Some(moved) = staged(tensor, gpu)?
    {
        return Ok(moved);
    }
    tensor.detach().to_device(device).map_err(candle("transfer"))
}

/// `None` for what does not go by page-locked memory.
#[cfg(feature = "cuda")]
fn staged(tensor: &Tensor, gpu: &candle_core::CudaDevice) -> Result<Option<Tensor>> {
    use candle_core::Storage;
    use candle_core::op::BackpropOp;

    use super::storage::{scalar_type, slice};
    use crate::cuda::{memory, staging};

    const OP: &str = "transfer";
    let Some(of) = scalar_type(tensor.dtype()) else { return Ok(None) };
    let count = tensor.elem_count();
    if count == 0 || count * of.bytes() > staging::LONGEST {
        return Ok(None);
    }
    let tensor = tensor.contiguous().map_err(candle(OP))?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(here) = &*storage else { return Ok(None) };
    let Some(from) = slice(here).map(|all| all.from(layout.start_offset()).until(count)) else {
        return Ok(None);
    };
    let mut there = memory::allocate(OP, gpu, of, count)?;
    let stream = gpu.cuda_stream();
    let Some((to_of, to, used)) = memory::write(&mut there, 0, &stream) else { return Ok(None) };
    staging::copy(from, to_of, to)?;
    drop(used);
    let shape = tensor.shape().clone();
    Ok(Some(Tensor::from_storage(Storage::Cuda(there), shape, BackpropOp::none(), false)))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Var};

    use super::*;

    #[test]
    fn what_is_there_already_is_not_copied_and_stays_in_its_graph() {
        let x = Var::zeros((2, 3), DType::BF16, &Device::Cpu).unwrap();
        let same = to_device(&x, &Device::Cpu).unwrap();
        assert_eq!(same.id(), x.id());
    }

    /// Every dtype, views, one element, none, and more than are under way at once, on a CUDA device.
    #[cfg(feature = "cuda")]
    #[test]
    fn what_goes_to_a_device_is_what_comes_back() {
        let gpu = match Device::new_cuda(0) {
            Ok(gpu) => gpu,
            Err(error) if std::env::var("REQUIRE").as_deref() == Ok("cuda") => panic!("{error}"),
            Err(error) => return println!("SKIPPED: {error}"),
        };
        let bytes = |t: &Tensor| {
            let wide = t.to_device(&Device::Cpu).unwrap().to_dtype(DType::F64).unwrap();
            wide.flatten_all().unwrap().to_vec1::<f64>().unwrap()
        };
        let mut moved = Vec::new();
        for nth in 0..40u32 {
            for dtype in [DType::U8, DType::U32, DType::I64, DType::BF16, DType::F16, DType::F32, DType::F64]
            {
                let x = Tensor::arange(nth, nth + 60, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
                let x = x.reshape((6, 10)).unwrap();
                let views =
                    [x.clone(), x.t().unwrap(), x.narrow(0, 1, 3).unwrap(), x.narrow(0, 2, 0).unwrap()];
                moved.extend(views.map(|view| (to_device(&view, &gpu).unwrap(), view)));
            }
        }
        for (there, here) in moved {
            assert_eq!((there.shape(), there.dtype()), (here.shape(), here.dtype()));
            assert_eq!(bytes(&there), bytes(&here));
        }
    }
}
