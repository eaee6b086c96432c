//! The update rules: what distinguishes one optimizer from another.

mod adam;
mod lion;
mod sgd;

pub use adam::{Adam, AdamConfig, AdamW, AdamWConfig};
pub use lion::{Lion, LionConfig};
pub use sgd::{Momentum, Sgd, SgdConfig};

use crate::Result;
use backends::Real;
#[cfg(feature = "cuda")]
use backends::cuda::DeviceRule;
use backends::kernels::fused_step;

/// The settings of an optimizer, and the kernel that they make. Implemented by the config types.
pub trait Rule: Clone + Send + Sync + std::fmt::Debug + 'static {
    /// Refuses settings outside their range.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`](crate::Error::InvalidSetting), naming the setting and what is allowed.
    fn validate(&self) -> Result<()>;

    /// The learning rate.
    fn lr(&self) -> f64;

    /// Replaces the learning rate.
    fn set_lr(&mut self, lr: f64);

    /// The weight decay.
    fn weight_decay(&self) -> f64;

    /// What PyTorch calls the moments that the rule keeps: none, one or two.
    fn moment_names(&self) -> &'static [&'static str];

    /// The kernel for one step of one group.
    fn kernel<A: Real>(&self, at: &At) -> impl fused_step::Rule<A>;

    /// The same for a CUDA device, which counts [`At::step`] itself; `None` where there is no such kernel.
    #[cfg(feature = "cuda")]
    fn device_kernel(&self, at: &At) -> Option<impl DeviceRule> {
        let _ = at;
        None::<backends::kernels::adamw::Settings>
    }
}

/// Where a step is: what differs between groups and steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct At {
    /// The group's learning rate.
    pub lr: f64,
    /// The group's weight decay.
    pub weight_decay: f64,
    /// Which step of the parameter it is, counted from 1.
    pub step: u64,
}
