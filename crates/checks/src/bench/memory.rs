//! The most memory in use: what Linux says is resident on a CPU, what the driver says is taken on a GPU.
//!
//! A GPU's driver keeps no peak of its own that safe code could ask for, so a thread asks it all the time. That disturbs
//! the steps: it is watched while the first ones run, which no time is taken of and which need as much as the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use candle_core::Device;

use crate::device::memory_in_use;

/// A measurement, from its start to [`peak_mib`](Self::peak_mib).
pub(crate) enum PeakMemory {
    /// The process's memory; `None` where the system does not tell.
    Resident(Option<u64>),
    Watched(Watch),
}

impl PeakMemory {
    /// Starts measuring; what is in use now does not count.
    pub(crate) fn start(device: &Device) -> candle_core::Result<Self> {
        device.synchronize()?;
        if device.is_cpu() {
            // "5" makes the present use the peak. Where that is refused, the peak is the process's.
            let _ = std::fs::write("/proc/self/clear_refs", "5");
            return Ok(Self::Resident(status("VmRSS:")));
        }
        Ok(Self::Watched(Watch::start(device)?))
    }

    /// Lets the device work undisturbed. What it needs from here on is not seen.
    pub(crate) fn stop_watching(&mut self) {
        if let Self::Watched(watch) = self {
            watch.stop();
        }
    }

    /// The most that was in use beyond what was in use at the start.
    pub(crate) fn peak_mib(mut self) -> Option<u64> {
        self.stop_watching();
        let bytes = match &self {
            Self::Resident(start) => status("VmHWM:")?.saturating_sub((*start)?),
            Self::Watched(watch) => watch.most.load(Ordering::Relaxed).saturating_sub(watch.start),
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

/// A thread that asks a GPU's driver how much is in use.
pub(crate) struct Watch {
    start: u64,
    most: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    fn start(device: &Device) -> candle_core::Result<Self> {
        let start = memory_in_use(device)?;
        let (most, done) = (Arc::new(AtomicU64::new(start)), Arc::new(AtomicBool::new(false)));
        let (device, seen, ended) = (device.clone(), most.clone(), done.clone());
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                if let Ok(bytes) = memory_in_use(&device) {
                    seen.fetch_max(bytes, Ordering::Relaxed);
                }
            }
        });
        Ok(Self { start, most, done, thread: Some(thread) })
    }

    fn stop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It only reads: there is nothing to learn from how it ended.
            let _ = thread.join();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop();
    }
}
