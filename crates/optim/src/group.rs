//! Parameter groups: parts of a model with a learning rate or decay of their own.

use crate::Result;
use crate::error::check_non_negative;

/// How a group of parameters differs from the optimizer's settings.
///
/// The learning rate is a multiple and not a value, so that a schedule moves all groups together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// What the optimizer's learning rate is multiplied by.
    pub lr_scale: f64,
    /// The weight decay, where it is not the optimizer's.
    pub weight_decay: Option<f64>,
}

impl Default for Group {
    fn default() -> Self {
        Self { lr_scale: 1.0, weight_decay: None }
    }
}

impl Group {
    /// No weight decay: for biases, norms and embeddings.
    pub fn no_decay() -> Self {
        Self { weight_decay: Some(0.0), ..Self::default() }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        check_non_negative("Group", "lr_scale", self.lr_scale)?;
        self.weight_decay.map_or(Ok(()), |decay| check_non_negative("Group", "weight_decay", decay))
    }
}
