//! From the host's memory to a device's by way of page-locked memory, which the device reads by itself: the host goes on as soon
//! as it has copied, and the driver need not copy a second time.

#![expect(unsafe_code, reason = "page-locked memory that a device reads after the call")]

use super::device;
use super::memory::DeviceSlice;
use crate::Result;
use crate::buffer::{ScalarType, Slice};
use candle_core::cuda_backend::cudarc::driver::{CudaContext, CudaEvent, PinnedHostSlice, result, sys};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

const OP: &str = "transfer";

/// The longest transfer that goes this way, in bytes: page-locked memory is taken from everybody else's.
pub(crate) const LONGEST: usize = 64 << 20;

/// Transfers that may be under way on a device. One more waits for the first of them.
const UNDER_WAY: usize = 16;

/// What a buffer has at least, in bytes.
const SMALLEST: usize = 64 << 10;

/// The buffers of each device, by its number, the one that was used last at the end. Their memory is that of the device's primary
/// context, which candle's devices of one number share, and stays until the process ends.
static BUFFERS: Mutex<Vec<(usize, VecDeque<Buffer>)>> = Mutex::new(Vec::new());

struct Buffer {
    memory: PinnedHostSlice<u8>,
    /// Complete when the device has read what was put here last.
    read: CudaEvent,
}

impl Buffer {
    fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self> {
        let bytes = bytes.max(SMALLEST).next_power_of_two();
        // SAFETY: zeroed on the next line, before anything reads it.
        let mut memory =
            unsafe { context.alloc_pinned_with_flags::<u8>(bytes, sys::CU_MEMHOSTALLOC_PORTABLE) }
                .map_err(device(OP))?;
        memory.as_mut_slice().map_err(device(OP))?.fill(0);
        let read = context.new_event(None).map_err(device(OP))?;
        Ok(Self { memory, read })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // The device may still be about to read. One that has failed reads nothing.
        let _ = self.read.synchronize();
    }
}

/// Queues a copy of `from` to `to` on its device's stream. `from` may be gone when this returns.
///
/// # Errors
///
/// [`Error::LengthMismatch`](crate::Error::LengthMismatch) where `to`, whose elements are of type `of`, has fewer bytes, and
/// [`Error::Device`](crate::Error::Device).
pub(crate) fn copy(from: Slice<'_>, of: ScalarType, to: DeviceSlice<'_>) -> Result<()> {
    let bytes = from.len() * from.scalar_type().bytes();
    let (expected, got) = (bytes, to.len() * of.bytes());
    if got < expected {
        return Err(crate::Error::LengthMismatch { op: OP, argument: "the device's memory", expected, got });
    }
    let stream = to.gpu().cuda_stream();
    let idle = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
    if stream.capture_status().map_err(device(OP))? != idle {
        // A graph would read the buffer at every launch, whatever it holds then.
        let message = "a step that is recorded cannot move a tensor of the host's to the device".into();
        return Err(crate::Error::Device { op: OP.into(), message });
    }
    let context = stream.context();
    let mut all = BUFFERS.lock().unwrap_or_else(PoisonError::into_inner);
    let buffers = of_device(&mut all, context.ordinal());
    let mut buffer = free(buffers, context, bytes)?;
    let staged = &mut buffer.memory.as_mut_slice().map_err(device(OP))?[..bytes];
    // SAFETY: `first` is the first of `bytes` bytes that are borrowed in `from`, and `staged` has as many; it is memory of this
    // file's own.
    unsafe { std::ptr::copy_nonoverlapping(first(from), staged.as_mut_ptr(), bytes) };
    // SAFETY: `to` is `bytes` of device memory or more, by the check above, which a `DeviceSlice` borrows until the copy is queued;
    // whoever frees it does so in the order of this stream. The device reads `staged` until `read` is complete, recorded behind
    // the copy, and nobody writes to it or frees it before that: `free` and `drop` wait for it.
    unsafe { result::memcpy_htod_async(to.address(), staged, stream.cu_stream()) }.map_err(device(OP))?;
    if let Err(error) = buffer.read.record(&stream) {
        // Nothing marks the copy's end: it has to be over.
        let _ = stream.synchronize();
        return Err(device(OP)(error));
    }
    buffers.push_back(buffer);
    Ok(())
}

fn of_device(all: &mut Vec<(usize, VecDeque<Buffer>)>, ordinal: usize) -> &mut VecDeque<Buffer> {
    let at = all.iter().position(|(of, _)| *of == ordinal).unwrap_or_else(|| {
        all.push((ordinal, VecDeque::new()));
        all.len() - 1
    });
    &mut all[at].1
}

/// A buffer of so many bytes that the device does not read any more: the one that was used longest ago, or a new one.
fn free(buffers: &mut VecDeque<Buffer>, context: &Arc<CudaContext>, bytes: usize) -> Result<Buffer> {
    let waits = buffers.len() >= UNDER_WAY;
    let Some(oldest) = buffers.pop_front_if(|oldest| waits || oldest.read.is_complete()) else {
        return Buffer::new(context, bytes);
    };
    oldest.read.synchronize().map_err(device(OP))?;
    if oldest.memory.len() >= bytes { Ok(oldest) } else { Buffer::new(context, bytes) }
}

/// The address of the first element.
fn first(slice: Slice<'_>) -> *const u8 {
    match slice {
        Slice::F16(x) => x.as_ptr().cast(),
        Slice::Bf16(x) => x.as_ptr().cast(),
        Slice::F32(x) => x.as_ptr().cast(),
        Slice::F64(x) => x.as_ptr().cast(),
        Slice::I64(x) => x.as_ptr().cast(),
        Slice::U32(x) => x.as_ptr().cast(),
        Slice::U8(x) => x.as_ptr().cast(),
    }
}
