//! How much memory is in use: by the process on a CPU, on the device on a GPU.

use candle_core::Device;

/// Bytes in use now, where the system tells: the process's resident memory for the CPU, and all that is taken of a GPU's, by
/// whomever.
#[cfg(feature = "cuda")]
pub(crate) fn in_use(device: &Device) -> Option<u64> {
    use candle_core::cuda_backend::cudarc::driver::result::mem_get_info;
    match device {
        Device::Cuda(_) => mem_get_info().ok().map(|(free, total)| (total - free) as u64),
        _ => resident(),
    }
}

/// Bytes in use now, where the system tells: the process's resident memory.
#[cfg(not(feature = "cuda"))]
pub(crate) fn in_use(_: &Device) -> Option<u64> {
    resident()
}

fn resident() -> Option<u64> {
    memory_stats::memory_stats().map(|memory| memory.physical_mem as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_to_is_in_use() {
        let before = in_use(&Device::Cpu).unwrap();
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = in_use(&Device::Cpu).unwrap();
        assert!(after >= before + (32 << 20), "{before} -> {after}");
        drop(block);
    }
}
