//! Gradient descent with momentum.

use super::{Rule, Sealed};
use crate::error::{check, check_non_negative};
use crate::{Fused, Result};
use backends::kernels::sgd::Settings;
use backends::kernels::step::RuleSettings;

/// Stochastic gradient descent, with or without momentum.
pub type Sgd = Fused<SgdConfig>;

pub use backends::kernels::sgd::Momentum;

/// The settings of [`Sgd`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdConfig {
    /// The learning rate.
    pub lr: f64,
    /// The momentum.
    pub momentum: Momentum,
    /// `weight_decay * weight` is added to the gradient.
    pub weight_decay: f64,
}

impl Default for SgdConfig {
    fn default() -> Self {
        Self { lr: 1e-3, momentum: Momentum::None, weight_decay: 0.0 }
    }
}

impl Sealed for SgdConfig {}

impl Rule for SgdConfig {
    fn validate(&self) -> Result<()> {
        check_non_negative("Sgd", "lr", self.lr)?;
        check_non_negative("Sgd", "weight_decay", self.weight_decay)?;
        match self.momentum {
            Momentum::None => Ok(()),
            Momentum::Heavy { momentum, dampening } => {
                check_momentum(momentum)?;
                check("Sgd", "dampening", "a finite number", dampening, dampening.is_finite())
            }
            Momentum::Nesterov { momentum } => check_momentum(momentum),
        }
    }

    fn lr(&self) -> f64 {
        self.lr
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn moment_names(&self) -> &'static [&'static str] {
        match self.momentum {
            Momentum::None => &[],
            Momentum::Heavy { .. } | Momentum::Nesterov { .. } => &["momentum_buffer"],
        }
    }

    fn settings(&self, lr: f64, weight_decay: f64) -> impl RuleSettings {
        Settings { lr, weight_decay, momentum: self.momentum }
    }
}

fn check_momentum(momentum: f64) -> Result<()> {
    check("Sgd", "momentum", "above 0 and finite", momentum, momentum > 0.0 && momentum.is_finite())
}
