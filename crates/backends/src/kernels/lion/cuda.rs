//! The CUDA side: the compiled kernels, and the settings as they take them.

use super::Settings;
use crate::cuda::{DeviceRule, Module};
use crate::kernels::fused_step::cuda::RuleKernel;

impl DeviceRule for Settings {
    fn kernel(&self) -> RuleKernel {
        let ptx = include_str!(concat!(env!("OUT_DIR"), "/lion.ptx"));
        RuleKernel { module: Module { name: "mixed_precision_lion", ptx }, prefix: "lion" }
    }

    fn moments(&self) -> usize {
        1
    }

    fn words(&self) -> [u64; 6] {
        let [lr, beta1, beta2, decay] =
            [self.lr, self.betas.0, self.betas.1, self.weight_decay].map(f64::to_bits);
        [lr, beta1, beta2, decay, 0, 0]
    }
}
