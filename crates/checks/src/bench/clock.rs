//! Times of steps, each from an idle device to an idle device.

use std::time::Instant;

use candle_core::Device;

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
