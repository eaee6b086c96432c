//! Which of several ways to do the same is the fastest on a device.

use super::device;
use crate::Result;
use candle_core::cuda_backend::cudarc::driver::{CudaStream, sys};

const OP: &str = "timing";
/// Ways that are compared.
pub(super) const CANDIDATES: usize = 8;
/// Runs of a way, of which the fastest counts. The one before them is not timed.
const RUNS: usize = 4;
/// The share of the time that another than the first has to save: less is the clock's.
const WORTH: f32 = 0.02;

/// Whether the stream's work can be waited for, which it cannot while it is recorded.
pub(super) fn can_time(stream: &CudaStream) -> Result<bool> {
    let status = stream.capture_status().map_err(device(OP))?;
    Ok(status == sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE)
}

/// The place of the fastest of `count` ways, where `run` queues one and says whether it could; 0 where none could.
///
/// # Errors
///
/// [`Error::Device`](crate::Error::Device).
pub(super) fn fastest(
    stream: &CudaStream,
    count: usize,
    mut run: impl FnMut(usize) -> Result<bool>,
) -> Result<usize> {
    let timing = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
    let mut best: Option<(usize, f32)> = None;
    for way in 0..count {
        if !run(way)? {
            continue;
        }
        let mut least = f32::INFINITY;
        for _ in 0..RUNS {
            let begun = stream.record_event(timing).map_err(device(OP))?;
            run(way)?;
            let ended = stream.record_event(timing).map_err(device(OP))?;
            least = least.min(begun.elapsed_ms(&ended).map_err(device(OP))?);
        }
        if best.is_none_or(|(_, fastest)| least < fastest * (1. - WORTH)) {
            best = Some((way, least));
        }
    }
    Ok(best.map_or(0, |(way, _)| way))
}
