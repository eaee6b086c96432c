//! What became of each step, told by the device without being asked: a ring in host memory that kernels write to.

#![expect(unsafe_code, reason = "host memory that kernels write to")]

use super::device;
use crate::Result;
use crate::kernels::step::REMEMBERED;
use candle_core::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::{CudaStream, PinnedHostSlice, sys};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const OP: &str = "outcomes";

/// The last [`Outcomes::LEN`] outcomes.
#[derive(Debug)]
pub(crate) struct Outcomes {
    stream: Arc<CudaStream>,
    /// Pairs of (serial number, payload). Kernels write to it, so the host touches it through atomics alone.
    ring: PinnedHostSlice<u64>,
}

impl Outcomes {
    /// How many steps are remembered.
    pub(crate) const LEN: u32 = REMEMBERED as u32;

    pub(crate) fn new(candle: &CudaDevice) -> Result<Self> {
        let stream = candle.cuda_stream();
        let flags = sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP;
        // SAFETY: zeroed on the next line, before anything reads it.
        let mut ring =
            unsafe { stream.context().alloc_pinned_with_flags::<u64>(2 * Self::LEN as usize, flags) }
                .map_err(device(OP))?;
        ring.as_mut_slice().map_err(device(OP))?.fill(0);
        Ok(Self { stream, ring })
    }

    /// Where kernels write: with unified addressing, which every 64-bit system has, the host's address is the device's.
    pub(crate) fn address(&self) -> Result<u64> {
        Ok(self.ring.as_ptr().map_err(device(OP))? as u64)
    }

    /// The word that a kernel left with this serial number, or `None` while the device has not come to it, or where it is
    /// more than [`Outcomes::LEN`] steps ago.
    pub(crate) fn payload(&self, serial: u32) -> Result<Option<u64>> {
        let at = 2 * (serial % Self::LEN) as usize;
        let announced = self.word(at)?;
        let payload = self.word(at + 1)?;
        // A slot that was taken for a later serial number in between announces that one.
        Ok((announced == u64::from(serial) && self.word(at)? == announced).then_some(payload))
    }

    /// Waits for the device to have run everything that was launched, so that every outcome is in.
    pub(crate) fn wait(&self) -> Result<()> {
        self.stream.synchronize().map_err(device(OP))
    }

    fn word(&self, index: usize) -> Result<u64> {
        let base = self.ring.as_ptr().map_err(device(OP))?.cast_mut();
        // SAFETY: `index` is below 2 * LEN, the ring's length, and the ring lives as long as `self`. Nobody holds a
        // reference to it; the device writes whole aligned words.
        let word = unsafe { AtomicU64::from_ptr(base.add(index)) };
        Ok(word.load(Ordering::Acquire))
    }
}

impl Drop for Outcomes {
    fn drop(&mut self) {
        // A kernel may still be about to write to the ring. A device that has failed writes nothing.
        let _ = self.stream.synchronize();
    }
}
