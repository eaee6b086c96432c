//! `LossScale`: a loss scale where the losses and gradients are.

#[cfg(feature = "cuda")]
use super::cuda::OnDevice;
use super::{ScaleState, ScalerConfig};
use crate::kernels::step::{SUPPORTED_DEVICES, Seen, is_supported, look_on_host};
use crate::{Error, Result};
use candle_core::{Device, Tensor};

const OP: &str = "loss_scale";

/// A loss scale, and whether any gradient overflowed since it was last moved. On a CUDA device all of it lives there.
#[derive(Debug)]
pub struct LossScale {
    settings: ScalerConfig,
    device: Device,
    place: Place,
    counting: Counting,
}

#[derive(Debug)]
enum Place {
    Host(OnHost),
    #[cfg(feature = "cuda")]
    Device(OnDevice),
}

/// The scale on a CPU.
#[derive(Debug)]
pub(crate) struct OnHost {
    pub(crate) state: ScaleState,
    /// In any optimizer since the last update.
    pub(crate) found_inf: bool,
}

/// Whether a device counts elements, which a CPU does anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counting {
    Off,
    On,
}

impl LossScale {
    /// Puts a scale on a device.
    ///
    /// # Errors
    ///
    /// [`Error::Operand`] where this build has no kernels for the device; [`Error::Device`] where it fails.
    pub fn new(settings: ScalerConfig, state: ScaleState, device: &Device) -> Result<Self> {
        if !is_supported(device) {
            let (expected, got) = (SUPPORTED_DEVICES.into(), format!("{:?}", device.location()));
            return Err(Error::Operand { op: OP, argument: "the device", expected, got });
        }
        let place = match device {
            #[cfg(feature = "cuda")]
            Device::Cuda(candle) => Place::Device(OnDevice::new(candle, device, state)?),
            _ => Place::Host(OnHost { state, found_inf: false }),
        };
        Ok(Self { settings, device: device.clone(), place, counting: Counting::Off })
    }

    /// Has every step count the elements of its gradients, so that
    /// [`Pending::wait_for_seen`](crate::kernels::step::Pending::wait_for_seen) tells what they held. On a CUDA device that
    /// costs a second reading of the gradients from the cache.
    #[must_use]
    pub fn counting(self) -> Self {
        Self { counting: Counting::On, ..self }
    }

    /// Begins anew with other settings and from another state.
    ///
    /// # Errors
    ///
    /// [`Error::Device`] where the device fails.
    pub fn reset(&mut self, settings: ScalerConfig, state: ScaleState) -> Result<()> {
        *self = Self { counting: self.counting, ..Self::new(settings, state, &self.device)? };
        Ok(())
    }

    /// Where it is.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// An f32 or f64 loss, scaled. Does not wait for a device.
    ///
    /// # Errors
    ///
    /// [`Error::Device`] where candle or the device fails.
    pub fn times(&self, loss: &Tensor) -> Result<Tensor> {
        let product = match &self.place {
            Place::Host(host) => loss.affine(f64::from(host.state.scale), 0.0),
            #[cfg(feature = "cuda")]
            Place::Device(on_device) => {
                on_device.scale().to_dtype(loss.dtype()).and_then(|scale| loss.broadcast_mul(&scale))
            }
        };
        product.map_err(|error| Error::Device { op: OP.into(), message: error.to_string() })
    }

    /// Looks at gradients that carry the scale, each with the slot of its parameter, and remembers whether one was not
    /// finite. **Waits for a device.**
    ///
    /// # Errors
    ///
    /// [`Error::Operand`] for a gradient that is no float, not contiguous or not on the scale's device; [`Error::Device`].
    pub fn look(&mut self, grads: &[(usize, &Tensor)]) -> Result<Seen> {
        match &mut self.place {
            Place::Host(host) => {
                let seen = look_on_host(grads, host.state.inv_scale())?;
                host.found_inf |= seen.found_inf();
                Ok(seen)
            }
            #[cfg(feature = "cuda")]
            Place::Device(on_device) => on_device.look(grads),
        }
    }

    /// Moves the scale by what the steps and looks since the last update found. Does not wait for a device.
    ///
    /// # Errors
    ///
    /// Where the driver fails.
    pub fn update(&mut self) -> Result<()> {
        match &mut self.place {
            Place::Host(host) => {
                host.state = host.state.update(std::mem::take(&mut host.found_inf), &self.settings);
                Ok(())
            }
            #[cfg(feature = "cuda")]
            Place::Device(on_device) => on_device.update(&self.settings),
        }
    }

    /// The state after everything launched so far. **Waits for a device.**
    ///
    /// # Errors
    ///
    /// Where the driver fails.
    pub fn wait_for_state(&self) -> Result<ScaleState> {
        match &self.place {
            Place::Host(host) => Ok(host.state),
            #[cfg(feature = "cuda")]
            Place::Device(on_device) => on_device.wait_for_state(),
        }
    }

    /// The scale, for a step on a CPU.
    pub(crate) fn on_host(&mut self) -> Result<&mut OnHost> {
        match &mut self.place {
            Place::Host(host) => Ok(host),
            #[cfg(feature = "cuda")]
            Place::Device(_) => Err(elsewhere(&self.device)),
        }
    }

    /// The scale, for a step on a device, and whether that counts elements.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_device(&self) -> Result<(&OnDevice, Counting)> {
        match &self.place {
            Place::Device(on_device) => Ok((on_device, self.counting)),
            Place::Host(_) => Err(elsewhere(&self.device)),
        }
    }
}

#[cfg(feature = "cuda")]
fn elsewhere(device: &Device) -> Error {
    let got = format!("on {:?}", device.location());
    Error::Operand { op: OP, argument: "the scale", expected: "on the gradients' device".into(), got }
}
