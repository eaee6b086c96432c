//! A table on the device that follows one on the host: uploaded when it changed, asynchronously, from pinned memory.

#![expect(unsafe_code, reason = "host memory that copies read from")]

use super::{device, slice_address};
use crate::Result;
use candle_core::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaSlice, CudaStream, PinnedHostSlice};
use std::sync::Arc;

const OP: &str = "table upload";
/// Uploads that may be under way at once. The host waits only when it is this many changes ahead of the device.
const SLOTS: usize = 4;

/// Words that kernels read.
#[derive(Debug)]
pub(crate) struct Table {
    stream: Arc<CudaStream>,
    words: Vec<u64>,
    on_device: Option<CudaSlice<u64>>,
    slots: Vec<Slot>,
    next: usize,
}

#[derive(Debug)]
struct Slot {
    pinned: PinnedHostSlice<u64>,
    copied: CudaEvent,
}

impl Table {
    pub(crate) fn new(device: &CudaDevice) -> Self {
        Self { stream: device.cuda_stream(), words: Vec::new(), on_device: None, slots: Vec::new(), next: 0 }
    }

    /// Makes the device's copy equal to `words` for every kernel launched from here on, and gives its address: 0 for an
    /// empty table.
    pub(crate) fn upload(&mut self, words: &[u64]) -> Result<u64> {
        if self.words != words {
            self.send(words)?;
            words.clone_into(&mut self.words);
        }
        Ok(self.address())
    }

    /// Where the table is; 0 while it has never held anything.
    pub(crate) fn address(&self) -> u64 {
        self.on_device.as_ref().map_or(0, |slice| slice_address(slice, &self.stream))
    }

    fn send(&mut self, words: &[u64]) -> Result<()> {
        if words.is_empty() {
            return Ok(());
        }
        if self.on_device.as_ref().is_none_or(|slice| slice.len() < words.len()) {
            self.grow(words.len().next_power_of_two())?;
        }
        let Some(on_device) = &mut self.on_device else { return Ok(()) };
        let slot = &mut self.slots[self.next];
        self.next = (self.next + 1) % SLOTS;
        // A plain slice, as cudarc waits for a pinned slice's own event, which a stream that is being captured may not.
        slot.copied.synchronize().map_err(device(OP))?;
        slot.pinned.as_mut_slice().map_err(device(OP))?[..words.len()].copy_from_slice(words);
        let staged = &slot.pinned.as_slice().map_err(device(OP))?[..words.len()];
        self.stream.memcpy_htod(staged, on_device).map_err(device(OP))?;
        slot.copied.record(&self.stream).map_err(device(OP))
    }

    fn grow(&mut self, len: usize) -> Result<()> {
        let context = self.stream.context();
        self.finish();
        self.slots.clear();
        for _ in 0..SLOTS {
            // SAFETY: the memory is written below before anything reads it.
            let mut pinned = unsafe { context.alloc_pinned::<u64>(len) }.map_err(device(OP))?;
            pinned.as_mut_slice().map_err(device(OP))?.fill(0);
            let copied = context.new_event(None).map_err(device(OP))?;
            self.slots.push(Slot { pinned, copied });
        }
        self.on_device = Some(self.stream.alloc_zeros(len).map_err(device(OP))?);
        Ok(())
    }

    /// Waits until no copy reads the pinned memory any more.
    fn finish(&self) {
        for slot in &self.slots {
            // A device that cannot be waited for has failed, and reads nothing.
            let _ = slot.copied.synchronize();
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.finish();
    }
}
