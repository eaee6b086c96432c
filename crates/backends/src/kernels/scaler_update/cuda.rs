//! `DeviceScaler`: a loss scale on the device, and the launch that moves it.

#![expect(unsafe_code, reason = "launching a kernel")]

use crate::cuda::{Kernel, Module, Outcomes, device, slice_address, write_address};
use crate::{Error, Result};
use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::{CudaDevice, Device, Tensor};

const OP: &str = "scaler_update";
const MODULE: Module = Module {
    name: "mixed_precision_scaler_update",
    ptx: include_str!(concat!(env!("OUT_DIR"), "/scaler_update.ptx")),
};

/// How the scale moves. Values are taken as they are: `grad-scaler` checks them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceScalerSettings {
    /// What the scale is multiplied by when it grows.
    pub growth_factor: f64,
    /// What the scale is multiplied by when it backs off.
    pub backoff_factor: f64,
    /// Clean steps in a row before it grows.
    pub growth_interval: u32,
    /// The floor.
    pub min_scale: Option<f64>,
    /// The ceiling.
    pub max_scale: Option<f64>,
    /// Overflows per back-off.
    pub hysteresis: u32,
    /// Whether a clean step fills the hysteresis again; else the end of a growth interval does.
    pub refill_on_clean_step: bool,
    /// Whether the scale never moves.
    pub fixed: bool,
}

/// The scale and what belongs to it, as they were on the device at some point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceScalerState {
    /// What the loss is multiplied by.
    pub scale: f32,
    /// Steps in a row without an overflow.
    pub growth_tracker: i32,
    /// Overflows that are left before the scale backs off.
    pub hysteresis_left: u32,
}

/// A loss scale that lives on the device and is moved there.
#[derive(Debug)]
pub struct DeviceScaler {
    candle: CudaDevice,
    settings: DeviceScalerSettings,
    scale: Tensor,
    /// `ScalerState` in `multi_tensor.cuh`.
    state: CudaSlice<u32>,
    kernel: Kernel,
    outcomes: Outcomes,
    updates: u32,
}

impl DeviceScaler {
    /// Puts a scale on the device.
    ///
    /// # Errors
    ///
    /// Where the device is not a CUDA device, or fails.
    pub fn new(on: &Device, settings: DeviceScalerSettings, state: DeviceScalerState) -> Result<Self> {
        let Device::Cuda(candle) = on else {
            let got = format!("{:?}", on.location());
            return Err(Error::Operand {
                op: OP,
                argument: "the device",
                expected: "a CUDA device".into(),
                got,
            });
        };
        let words = [state.growth_tracker as u32, state.hysteresis_left, 0, 0];
        Ok(Self {
            settings,
            scale: Tensor::new(state.scale, on).map_err(device(OP))?,
            state: candle.clone_htod(&words).map_err(device(OP))?,
            kernel: Kernel::load(candle, MODULE, "scaler_update")?,
            outcomes: Outcomes::new(candle)?,
            candle: candle.clone(),
            updates: 0,
        })
    }

    /// The scale, as a 0-dimensional f32 tensor whose value changes with every [`update`](Self::update).
    pub fn scale(&self) -> &Tensor {
        &self.scale
    }

    /// Moves the scale by what the steps since the last update found. Does not wait for the device.
    ///
    /// # Errors
    ///
    /// Where the driver fails.
    pub fn update(&mut self) -> Result<()> {
        let s = &self.settings;
        let args: [u64; 10] = [
            write_address(OP, "the scale", &self.candle, &self.scale)?,
            self.state_address(),
            self.outcomes.address()?,
            s.growth_factor.to_bits(),
            s.backoff_factor.to_bits(),
            s.min_scale.unwrap_or(-1.0).to_bits(),
            s.max_scale.unwrap_or(-1.0).to_bits(),
            u64::from(s.growth_interval) | u64::from(s.hysteresis) << 32,
            u64::from(s.refill_on_clean_step) | u64::from(s.fixed) << 32,
            u64::from(Outcomes::LEN),
        ];
        // SAFETY: `args` is `UpdateArgs`: the scale, the state and the ring live as long as `self`, whose parts are
        // freed in stream order or after waiting for the stream.
        unsafe { self.kernel.launch(1, &args) }?;
        self.updates = self.updates.wrapping_add(1);
        Ok(())
    }

    /// The scale and tracker after the last update that the device has come to, or `None` where there was none within
    /// the last [`Outcomes::LEN`]. Does not wait.
    ///
    /// # Errors
    ///
    /// Where the driver fails.
    pub fn latest(&self) -> Result<Option<(f32, i32)>> {
        for back in 0..Outcomes::LEN.min(self.updates) {
            if let Some(payload) = self.outcomes.payload(self.updates - back)? {
                return Ok(Some((f32::from_bits((payload >> 32) as u32), payload as u32 as i32)));
            }
        }
        Ok(None)
    }

    /// The state as it is after everything launched so far. **Waits for the device.**
    ///
    /// # Errors
    ///
    /// Where the driver fails.
    pub fn wait_for_state(&self) -> Result<DeviceScalerState> {
        let scale = self.scale.to_scalar::<f32>().map_err(device(OP))?;
        let words = self.candle.clone_dtoh(&self.state).map_err(device(OP))?;
        Ok(DeviceScalerState { scale, growth_tracker: words[0] as i32, hysteresis_left: words[1] })
    }

    pub(crate) fn state_address(&self) -> u64 {
        slice_address(&self.state, &self.candle.cuda_stream())
    }
}
