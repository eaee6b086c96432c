//! How much memory is in use: by the process on a CPU, by tensors on a GPU.

use candle_core::Device;

/// Bytes that are in use now, and the most at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) now: u64,
    pub(crate) peak: u64,
}

impl Memory {
    /// Looks again, where the system tells: the process's resident memory for the CPU, whose peak is the most that was seen, and what the
    /// driver's pool has handed out of a GPU's.
    pub(crate) fn seen(self, device: &Device) -> Option<Self> {
        match device {
            Device::Cpu => resident().map(|now| Self { now, peak: self.peak.max(now) }),
            _ => autocast::device_memory(device)
                .ok()?
                .map(|memory| Self { now: memory.now, peak: memory.peak }),
        }
    }
}

fn resident() -> Option<u64> {
    memory_stats::memory_stats().map(|memory| memory.physical_mem as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_to_is_in_use() {
        let before = Memory::default().seen(&Device::Cpu).unwrap();
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = before.seen(&Device::Cpu).unwrap();
        assert!(after.now >= before.now + (32 << 20), "{before:?} -> {after:?}");
        drop(block);
        let later = after.seen(&Device::Cpu).unwrap();
        assert!(later.peak >= after.now, "{after:?} -> {later:?}");
    }
}
