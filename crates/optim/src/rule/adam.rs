//! Adam and AdamW.

use super::{Rule, Sealed};
use crate::error::{check, check_non_negative};
use crate::{Fused, Result};
use backends::kernels::adamw::{Decay, Settings};
use backends::kernels::step::RuleSettings;

/// Adam with weight decay apart from the gradient (Loshchilov and Hutter, 2019).
pub type AdamW = Fused<AdamWConfig>;

/// Adam with weight decay added to the gradient (Kingma and Ba, 2015).
pub type Adam = Fused<AdamConfig>;

/// The settings of [`AdamW`], with PyTorch's defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// The learning rate.
    pub lr: f64,
    /// The decay rates of the means of the gradient and of its square.
    pub betas: (f64, f64),
    /// Added to the root of the mean square, in f32 whatever the parameter's dtype.
    pub eps: f64,
    /// Weights shrink by `lr * weight_decay` at each step.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { lr: 1e-3, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.01 }
    }
}

/// The settings of [`Adam`], with PyTorch's defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamConfig {
    /// The learning rate.
    pub lr: f64,
    /// The decay rates of the means of the gradient and of its square.
    pub betas: (f64, f64),
    /// Added to the root of the mean square, in f32 whatever the parameter's dtype.
    pub eps: f64,
    /// `weight_decay * weight` is added to the gradient.
    pub weight_decay: f64,
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self { lr: 1e-3, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0 }
    }
}

macro_rules! adam_rule {
    ($config:ty, $op:literal, $decay:path) => {
        impl Sealed for $config {}

        impl Rule for $config {
            fn validate(&self) -> Result<()> {
                check_non_negative($op, "lr", self.lr)?;
                check_beta($op, "beta1", self.betas.0)?;
                check_beta($op, "beta2", self.betas.1)?;
                check_non_negative($op, "eps", self.eps)?;
                check_non_negative($op, "weight_decay", self.weight_decay)
            }

            fn lr(&self) -> f64 {
                self.lr
            }

            fn weight_decay(&self) -> f64 {
                self.weight_decay
            }

            fn moment_names(&self) -> &'static [&'static str] {
                &["exp_avg", "exp_avg_sq"]
            }

            fn settings(&self, lr: f64, weight_decay: f64) -> impl RuleSettings {
                Settings { lr, betas: self.betas, eps: self.eps, decay: $decay(weight_decay) }
            }
        }
    };
}
adam_rule!(AdamWConfig, "AdamW", Decay::Decoupled);
adam_rule!(AdamConfig, "Adam", Decay::L2);

pub(super) fn check_beta(op: &'static str, argument: &'static str, beta: f64) -> Result<()> {
    check(op, argument, "0 or above, and below 1", beta, (0.0..1.0).contains(&beta))
}
