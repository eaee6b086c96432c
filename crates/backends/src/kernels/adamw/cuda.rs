//! The CUDA side: the compiled kernels, and the settings as they take them.

use super::{Decay, Settings};
use crate::cuda::{DeviceRule, Module};
use crate::kernels::fused_step::cuda::RuleKernel;

/// The step count is the device's own: [`Settings::step`] is not used. [`Settings::lr`] is multiplied by the step's rate
/// where [`DeviceStep::set_rates`](crate::cuda::DeviceStep::set_rates) gave some.
impl DeviceRule for Settings {
    fn kernel(&self) -> RuleKernel {
        let ptx = include_str!(concat!(env!("OUT_DIR"), "/adamw.ptx"));
        RuleKernel { module: Module { name: "mixed_precision_adamw", ptx }, prefix: "adamw" }
    }

    fn moments(&self) -> usize {
        2
    }

    fn words(&self) -> [u64; 6] {
        let (decoupled, l2) = match self.decay {
            Decay::Decoupled(decay) => (decay, 0.0),
            Decay::L2(decay) => (0.0, decay),
        };
        [self.lr, self.betas.0, self.betas.1, self.eps, decoupled, l2].map(f64::to_bits)
    }
}
