//! A loss scale on a CUDA device, and the launch that moves it.

#![expect(unsafe_code, reason = "launching a kernel")]

use super::{Refill, ScaleState, ScalerConfig};
use crate::Result;
use crate::cuda::{Kernel, Module, device, module, slice_address, write_address};
use crate::kernels::step::{Seen, look_on_device};
use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::{CudaDevice, Device, Tensor};

const OP: &str = "loss_scale";
const MODULE: Module = module!("loss_scale");

#[derive(Debug)]
pub(crate) struct OnDevice {
    candle: CudaDevice,
    /// A 0-dimensional f32 tensor, which losses are multiplied by.
    scale: Tensor,
    /// `ScalerState` in `multi_tensor.cuh`.
    state: CudaSlice<u32>,
    kernel: Kernel,
}

impl OnDevice {
    pub(super) fn new(candle: &CudaDevice, on: &Device, state: ScaleState) -> Result<Self> {
        let words = [state.growth_tracker as u32, state.hysteresis_left, 0, 0];
        Ok(Self {
            scale: Tensor::new(state.scale, on).map_err(device(OP))?,
            state: candle.clone_htod(&words).map_err(device(OP))?,
            kernel: Kernel::load(candle, MODULE, "loss_scale")?,
            candle: candle.clone(),
        })
    }

    pub(crate) fn scale(&self) -> &Tensor {
        &self.scale
    }

    pub(crate) fn state_address(&self) -> u64 {
        slice_address(&self.state, &self.candle.cuda_stream())
    }

    pub(super) fn look(&self, grads: &[(usize, &Tensor)]) -> Result<Seen> {
        look_on_device(&self.candle, grads, Some(self))
    }

    pub(super) fn update(&self, s: &ScalerConfig) -> Result<()> {
        let args: [u64; 8] = [
            write_address(OP, "the scale", &self.candle, &self.scale)?,
            self.state_address(),
            s.growth_factor.to_bits(),
            s.backoff_factor.to_bits(),
            s.min_scale.unwrap_or(-1.0).to_bits(),
            s.max_scale.unwrap_or(-1.0).to_bits(),
            u64::from(s.growth_interval) | u64::from(s.hysteresis) << 32,
            u64::from(s.refill == Refill::OnCleanStep) | u64::from(s.is_static) << 32,
        ];
        // SAFETY: `args` is `UpdateArgs`: the scale and the state live as long as `self`, whose parts are freed in the
        // order of the stream.
        unsafe { self.kernel.launch(1, &args) }
    }

    pub(super) fn wait_for_state(&self) -> Result<ScaleState> {
        let scale = self.scale.to_scalar::<f32>().map_err(device(OP))?;
        let words = self.candle.clone_dtoh(&self.state).map_err(device(OP))?;
        Ok(ScaleState { scale, growth_tracker: words[0] as i32, hysteresis_left: words[1] })
    }
}
