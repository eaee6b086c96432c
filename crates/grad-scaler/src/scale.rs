//! Where the scale lives and is moved: beside the losses and gradients.

#[cfg(feature = "cuda")]
use crate::cuda::OnDevice;
use crate::{Result, ScaleState, ScalerConfig, gradients};
use candle_core::{Device, Tensor};

/// The scale and its tracker.
#[derive(Debug)]
pub(crate) enum Scale {
    Host(ScaleState),
    #[cfg(feature = "cuda")]
    Device(Box<OnDevice>),
}

impl Scale {
    pub(crate) fn new(config: &ScalerConfig, state: ScaleState, device: &Device) -> Result<Self> {
        gradients::check_device("GradScaler::new", "the scale", device)?;
        #[cfg(feature = "cuda")]
        if device.is_cuda() {
            return Ok(Self::Device(Box::new(OnDevice::new(config, state, device)?)));
        }
        let _ = config;
        Ok(Self::Host(state))
    }

    pub(crate) fn device(&self) -> Device {
        match self {
            Self::Host(_) => Device::Cpu,
            #[cfg(feature = "cuda")]
            Self::Device(on_device) => on_device.device().clone(),
        }
    }

    /// The state after everything launched so far. Waits for a device.
    pub(crate) fn wait_for_state(&self) -> Result<ScaleState> {
        match self {
            Self::Host(state) => Ok(*state),
            #[cfg(feature = "cuda")]
            Self::Device(on_device) => on_device.wait_for_state(),
        }
    }

    /// An f32 or f64 loss, scaled.
    pub(crate) fn times(&self, loss: &Tensor) -> Result<Tensor> {
        match self {
            Self::Host(state) => Ok(loss.affine(f64::from(state.scale), 0.0)?),
            #[cfg(feature = "cuda")]
            Self::Device(on_device) => on_device.times(loss),
        }
    }

    /// Moves the scale. A device knows by itself what the steps found.
    pub(crate) fn update(&mut self, found_inf: bool, config: &ScalerConfig) -> Result<()> {
        match self {
            Self::Host(state) => *state = state.update(found_inf, config),
            #[cfg(feature = "cuda")]
            Self::Device(on_device) => on_device.update()?,
        }
        Ok(())
    }
}
