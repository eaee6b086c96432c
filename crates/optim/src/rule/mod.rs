//! The update rules: what distinguishes one optimizer from another.

mod adam;
mod lion;
mod sgd;

pub use adam::{Adam, AdamConfig, AdamW, AdamWConfig};
pub use lion::{Lion, LionConfig};
pub use sgd::{Momentum, Sgd, SgdConfig};

use crate::Result;
use backends::kernels::step::RuleSettings;
use sealed::Sealed;

/// The settings of an optimizer, and the kernel that they make. Implemented by the config types, and by no others: a rule
/// has a kernel for each device.
pub trait Rule: Sealed + Clone + Send + Sync + std::fmt::Debug + 'static {
    /// Refuses settings outside their range.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`](crate::Error::InvalidSetting), naming the setting and what is allowed.
    fn validate(&self) -> Result<()>;

    /// The learning rate that an optimizer begins with.
    fn lr(&self) -> f64;

    /// The weight decay.
    fn weight_decay(&self) -> f64;

    /// What PyTorch calls the moments that the rule keeps: none, one or two.
    fn moment_names(&self) -> &'static [&'static str];

    /// A group's settings, as the kernels take them.
    #[doc(hidden)]
    fn settings(&self, lr: f64, weight_decay: f64) -> impl RuleSettings;
}

mod sealed {
    /// Keeps [`Rule`](super::Rule) to this crate.
    pub trait Sealed {}
}
