//! The most memory in use during a run: counted by the allocator on the CPU, asked of the driver on a GPU.

use std::cell::Cell;

use candle_core::Device;
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// A measurement that goes on until it is dropped.
pub(crate) struct PeakMemory {
    device: Device,
    at_start: u64,
    most: Cell<u64>,
}

impl PeakMemory {
    /// Starts measuring; what is in use now does not count.
    pub(crate) fn start(device: &Device) -> Self {
        HEAP.reset_peak_usage();
        let at_start = in_use(device);
        Self { device: device.clone(), at_start, most: Cell::new(at_start) }
    }

    /// Notes what a GPU has in use now. On the CPU the allocator sees every peak by itself.
    pub(crate) fn sample(&self) {
        self.most.set(self.most.get().max(in_use(&self.device)));
    }

    /// The most bytes that were in use at once, above those at the start.
    pub(crate) fn peak_bytes(&self) -> u64 {
        let most = match self.device {
            Device::Cpu => HEAP.peak_usage() as u64,
            _ => self.most.get(),
        };
        most.saturating_sub(self.at_start)
    }
}

#[cfg(feature = "cuda")]
fn in_use(device: &Device) -> u64 {
    match device {
        Device::Cuda(_) => candle_core::cuda_backend::cudarc::driver::result::mem_get_info()
            .map_or(0, |(free, total)| (total - free) as u64),
        _ => HEAP.current_usage() as u64,
    }
}

#[cfg(not(feature = "cuda"))]
fn in_use(_: &Device) -> u64 {
    HEAP.current_usage() as u64
}
