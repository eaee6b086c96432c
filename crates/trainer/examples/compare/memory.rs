//! The most memory in use during a run: counted by the allocator on the CPU, by the driver's pool on a GPU.

use candle_core::Device;
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// A measurement that goes on until it is dropped.
pub(crate) struct PeakMemory {
    device: Device,
    at_start: u64,
}

impl PeakMemory {
    /// Starts measuring; what is in use now does not count.
    pub(crate) fn start(device: &Device) -> trainer::Result<Self> {
        HEAP.reset_peak_usage();
        autocast::reset_peak_memory(device)?;
        let memory = autocast::device_memory(device)?;
        let at_start = memory.map_or(HEAP.current_usage() as u64, |memory| memory.now);
        Ok(Self { device: device.clone(), at_start })
    }

    /// The most bytes that were in use at once, above those at the start.
    pub(crate) fn peak_bytes(&self) -> trainer::Result<u64> {
        let memory = autocast::device_memory(&self.device)?;
        let most = memory.map_or(HEAP.peak_usage() as u64, |memory| memory.peak);
        Ok(most.saturating_sub(self.at_start))
    }
}
