//! Lion.

use super::adam::check_beta;
use super::{At, Rule};
use crate::error::check_non_negative;
use crate::{Fused, Result};
use backends::Real;
#[cfg(feature = "cuda")]
use backends::cuda::DeviceRule;
use backends::kernels::fused_step;
use backends::kernels::lion::{self, Settings};

/// Steps of one size in the direction of a sign, with one moment instead of Adam's two (Chen et al., 2023).
pub type Lion = Fused<LionConfig>;

/// The settings of [`Lion`], with its paper's defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LionConfig {
    /// The learning rate: 3 to 10 times smaller than AdamW's.
    pub lr: f64,
    /// How much of the mean goes into the direction, and how much of it is kept.
    pub betas: (f64, f64),
    /// Weights shrink by `lr * weight_decay` at each step.
    pub weight_decay: f64,
}

impl Default for LionConfig {
    fn default() -> Self {
        Self { lr: 1e-4, betas: (0.9, 0.99), weight_decay: 0.0 }
    }
}

impl LionConfig {
    fn settings(&self, at: &At) -> Settings {
        let At { lr, weight_decay, .. } = *at;
        Settings { lr, betas: self.betas, weight_decay }
    }
}

impl Rule for LionConfig {
    fn validate(&self) -> Result<()> {
        check_non_negative("lr", self.lr)?;
        check_beta("beta1", self.betas.0)?;
        check_beta("beta2", self.betas.1)?;
        check_non_negative("weight_decay", self.weight_decay)
    }

    fn lr(&self) -> f64 {
        self.lr
    }

    fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn moment_names(&self) -> &'static [&'static str] {
        &["exp_avg"]
    }

    fn kernel<A: Real>(&self, at: &At) -> impl fused_step::Rule<A> {
        lion::Lion::new(&self.settings(at))
    }

    #[cfg(feature = "cuda")]
    fn device_kernel(&self, at: &At) -> Option<impl DeviceRule> {
        Some(self.settings(at))
    }
}
