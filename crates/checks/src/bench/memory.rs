//! The most memory in use: what Linux says is resident on a CPU, what the driver's pool has handed out on a GPU.

use candle_core::Device;

/// A measurement, from its start to [`peak_mib`](Self::peak_mib).
pub(crate) struct PeakMemory {
    device: Device,
    /// What was in use at the start; `None` where the system does not tell.
    start: Option<u64>,
}

impl PeakMemory {
    /// Starts measuring; what is in use now does not count.
    pub(crate) fn start(device: &Device) -> autocast::Result<Self> {
        device.synchronize()?;
        let started = Self { device: device.clone(), start: None };
        started.forget()?;
        let start = match autocast::device_memory(device)? {
            Some(memory) => Some(memory.now),
            None => {
                // What an earlier run has left would be used again, and not be seen.
                autocast::release_host_memory();
                // "5" makes the present use the peak. Where that is refused, the peak is the process's.
                let _ = std::fs::write("/proc/self/clear_refs", "5");
                status("VmRSS:")
            }
        };
        Ok(Self { start, ..started })
    }

    /// Forgets the peak so far, on a GPU: a fit that records has the memory of its first steps and then that of the recording.
    pub(crate) fn forget(&self) -> autocast::Result<()> {
        autocast::reset_peak_memory(&self.device)
    }

    /// The most that was in use beyond what was in use at the start.
    pub(crate) fn peak_mib(self) -> Option<u64> {
        let peak = match autocast::device_memory(&self.device).ok()? {
            Some(memory) => memory.peak,
            None => status("VmHWM:")?,
        };
        Some(peak.saturating_sub(self.start?) >> 20)
    }
}

/// A number of bytes from what Linux says of this process.
fn status(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?;
    Some(kib.parse::<u64>().ok()? << 10)
}
