//! The CUDA side: the compiled kernels, and the settings as they take them.

use super::{Momentum, Settings};
use crate::cuda::{DeviceRule, Module};
use crate::kernels::fused_step::cuda::RuleKernel;

/// The step count is the device's own: [`Settings::step`] is not used. [`Settings::lr`] is multiplied by the step's rate
/// where [`DeviceStep::set_rates`](crate::cuda::DeviceStep::set_rates) gave some.
impl DeviceRule for Settings {
    fn kernel(&self) -> RuleKernel {
        let ptx = include_str!(concat!(env!("OUT_DIR"), "/sgd.ptx"));
        let prefix = if self.momentum == Momentum::None { "sgd_plain" } else { "sgd_momentum" };
        RuleKernel { module: Module { name: "mixed_precision_sgd", ptx }, prefix }
    }

    fn moments(&self) -> usize {
        usize::from(self.momentum != Momentum::None)
    }

    fn words(&self) -> [u64; 6] {
        let (momentum, dampening, nesterov) = match self.momentum {
            Momentum::None => (0.0, 0.0, 0),
            Momentum::Heavy { momentum, dampening } => (momentum, dampening, 0),
            Momentum::Nesterov { momentum } => (momentum, 0.0, 1),
        };
        let [lr, momentum, dampening, decay] =
            [self.lr, momentum, dampening, self.weight_decay].map(f64::to_bits);
        [lr, momentum, dampening, decay, nesterov, 0]
    }
}
