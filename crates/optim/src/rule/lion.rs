//! Lion.

use super::adam::check_beta;
use super::{Rule, Sealed};
use crate::error::check_non_negative;
use crate::{Fused, Result};
use backends::kernels::lion::Settings;
use backends::kernels::step::RuleSettings;

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

impl Sealed for LionConfig {}

impl Rule for LionConfig {
    fn validate(&self) -> Result<()> {
        check_non_negative("Lion", "lr", self.lr)?;
        check_beta("Lion", "beta1", self.betas.0)?;
        check_beta("Lion", "beta2", self.betas.1)?;
        check_non_negative("Lion", "weight_decay", self.weight_decay)
    }

    fn lr(&self) -> f64 {
        self.lr
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn moment_names(&self) -> &'static [&'static str] {
        &["exp_avg"]
    }

    fn settings(&self, lr: f64, weight_decay: f64) -> impl RuleSettings {
        Settings { lr, betas: self.betas, weight_decay }
    }
}
