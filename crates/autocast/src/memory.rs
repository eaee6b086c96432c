//! How much of a GPU's memory tensors have.

use candle_core::Device;

use crate::Result;

/// Bytes of a GPU that tensors of this process have, as the driver's pool tells, those of recorded graphs included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// In use now.
    pub now: u64,
    /// The most at a time since [`reset_peak_memory`].
    pub peak: u64,
}

/// What tensors have of a GPU's memory; `None` for a CPU.
///
/// # Errors
/// When the driver refuses.
pub fn device_memory(device: &Device) -> Result<Option<DeviceMemory>> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(gpu) = device {
        let (now, peak) = (backends::cuda::memory_in_use(gpu)?, backends::cuda::peak_memory(gpu)?);
        return Ok(Some(DeviceMemory { now, peak }));
    }
    let _ = device;
    Ok(None)
}

/// Has the peak of a GPU's memory begin anew with what is in use now; nothing on a CPU.
///
/// # Errors
/// When the driver refuses.
pub fn reset_peak_memory(device: &Device) -> Result<()> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(gpu) = device {
        backends::cuda::reset_peak_memory(gpu)?;
    }
    let _ = device;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_has_no_pool() {
        reset_peak_memory(&Device::Cpu).unwrap();
        assert_eq!(device_memory(&Device::Cpu).unwrap(), None);
    }
}
