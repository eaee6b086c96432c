//! The most memory in use: what Linux says is resident on a CPU, what the driver's pool has handed out on a GPU.

use candle_core::Device;

/// A measurement, from its start to [`peak_mib`](Self::peak_mib).
pub(crate) enum PeakMemory {
    /// The process's memory; `None` where the system does not tell.
    Resident(Option<u64>),
    /// A GPU's, and what was in use at the start.
    #[cfg(feature = "cuda")]
    Pool(candle_core::CudaDevice, u64),
}

impl PeakMemory {
    /// Starts measuring; what is in use now does not count.
    pub(crate) fn start(device: &Device) -> candle_core::Result<Self> {
        device.synchronize()?;
        #[cfg(feature = "cuda")]
        if let Device::Cuda(gpu) = device {
            let started =
                backends::cuda::reset_peak_memory(gpu).and_then(|()| backends::cuda::peak_memory(gpu));
            return Ok(Self::Pool(gpu.clone(), started.map_err(candle_core::Error::wrap)?));
        }
        // What an earlier run has left would be used again, and not be seen.
        autocast::release_host_memory();
        // "5" makes the present use the peak. Where that is refused, the peak is the process's.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        Ok(Self::Resident(status("VmRSS:")))
    }

    /// Forgets the peak so far, on a GPU: a fit that records has the memory of its first steps and then that of the recording.
    pub(crate) fn forget(&self) -> candle_core::Result<()> {
        #[cfg(feature = "cuda")]
        if let Self::Pool(gpu, _) = self {
            return backends::cuda::reset_peak_memory(gpu).map_err(candle_core::Error::wrap);
        }
        Ok(())
    }

    /// The most that was in use beyond what was in use at the start.
    pub(crate) fn peak_mib(self) -> Option<u64> {
        let bytes = match self {
            Self::Resident(start) => status("VmHWM:")?.saturating_sub(start?),
            #[cfg(feature = "cuda")]
            Self::Pool(gpu, start) => backends::cuda::peak_memory(&gpu).ok()?.saturating_sub(start),
        };
        Some(bytes >> 20)
    }
}

/// A number of bytes from what Linux says of this process.
fn status(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?;
    Some(kib.parse::<u64>().ok()? << 10)
}
