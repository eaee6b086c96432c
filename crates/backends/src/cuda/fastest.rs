//! Which of several ways to do the same is the fastest on a device.

#![expect(unsafe_code, reason = "memory that is not initialised")]

use super::device;
use crate::Result;
use candle_core::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::{DevicePtrMut, sys};

const OP: &str = "timing";
/// Ways that are compared.
pub(super) const CANDIDATES: usize = 8;
/// Runs of a way, of which the fastest counts. The one before them is not timed.
const RUNS: usize = 4;
/// The share of the time that another than the first has to save: less is the clock's.
const WORTH: f32 = 0.02;

/// The place of the fastest of `count` ways, where `run` queues one that writes to the address that it is given, of memory with room for
/// `bytes` that nobody reads, and says whether it could. It is the first where there is nothing to compare, no memory to write to, or
/// the stream is being recorded and cannot be waited for.
///
/// # Errors
///
/// [`Error::Device`](crate::Error::Device).
pub(super) fn fastest(
    gpu: &CudaDevice,
    count: usize,
    bytes: usize,
    mut run: impl FnMut(usize, u64) -> Result<bool>,
) -> Result<usize> {
    let stream = gpu.cuda_stream();
    let status = stream.capture_status().map_err(device(OP))?;
    if count < 2 || status != sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE {
        return Ok(0);
    }
    // SAFETY: nobody reads it.
    let Ok(mut out) = (unsafe { gpu.alloc::<u8>(bytes) }) else { return Ok(0) };
    let (out, _used) = out.device_ptr_mut(&stream);
    let timing = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
    let mut best: Option<(usize, f32)> = None;
    for way in 0..count {
        if !run(way, out)? {
            continue;
        }
        let mut least = f32::INFINITY;
        for _ in 0..RUNS {
            let begun = stream.record_event(timing).map_err(device(OP))?;
            run(way, out)?;
            let ended = stream.record_event(timing).map_err(device(OP))?;
            least = least.min(begun.elapsed_ms(&ended).map_err(device(OP))?);
        }
        if best.is_none_or(|(_, fastest)| least < fastest * (1. - WORTH)) {
            best = Some((way, least));
        }
    }
    Ok(best.map_or(0, |(way, _)| way))
}
