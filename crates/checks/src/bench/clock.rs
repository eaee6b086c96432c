//! Times of steps, each from an idle device to an idle device.

use std::time::Instant;

use candle_core::Device;

use crate::report::Outcome;

/// A stopwatch of laps.
pub(crate) struct Clock {
    device: Device,
    last: Instant,
    seconds: Vec<f64>,
}

impl Clock {
    pub(crate) fn start(device: &Device) -> candle_core::Result<Self> {
        device.synchronize()?;
        Ok(Self { device: device.clone(), last: Instant::now(), seconds: Vec::new() })
    }

    /// Waits for the device and ends a lap.
    pub(crate) fn lap(&mut self) -> candle_core::Result<()> {
        self.device.synchronize()?;
        let now = Instant::now();
        self.seconds.push((now - self.last).as_secs_f64());
        self.last = now;
        Ok(())
    }

    /// All laps but the first `count`, in seconds.
    pub(crate) fn after(&self, count: usize) -> &[f64] {
        &self.seconds[count.min(self.seconds.len())..]
    }
}

/// The time of `call` on an idle device, in milliseconds: the host's time counts where it is late.
pub(crate) fn time(device: &Device, call: impl FnOnce() -> Outcome<()>) -> Outcome<f64> {
    device.synchronize()?;
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        return events(device, call);
    }
    let start = Instant::now();
    call()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// The time between two events on the device's stream, before and after `call`, in milliseconds.
#[cfg(feature = "cuda")]
pub(crate) fn events(device: &Device, call: impl FnOnce() -> Outcome<()>) -> Outcome<f64> {
    use candle_core::cuda_backend::cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT;
    let stream = device.as_cuda_device()?.cuda_stream();
    let start = stream.record_event(Some(CU_EVENT_DEFAULT))?;
    call()?;
    let end = stream.record_event(Some(CU_EVENT_DEFAULT))?;
    end.synchronize()?;
    Ok(f64::from(start.elapsed_ms(&end)?))
}
