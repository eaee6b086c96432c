//! A step of an optimizer, on any device: statistics of the gradients, the decision whether it is taken, the update.
//!
//! 1. [`GradStats`]: is every gradient finite once unscaled, and what is their norm? Looked at where a [`LossScale`] or
//!    clipping by norm asks for it.
//! 2. The decision: under a loss scale a step is skipped, and changes nothing to the bit, where a gradient is infinite or
//!    NaN. Else `inv_scale` is `1 / scale`, and `clip_coef` is PyTorch's `max_norm / (norm + 1e-6)`, at most 1.
//! 3. [`fused_step`] for every parameter: unscale, clip, update by the [`Rule`], write back as [`WriteBack`] says.
//!
//! [`Stepper`] does all of it: on a CPU in two parallel passes, on a CUDA device in two launches (`grad_stats.cu` and the
//! rule's own file over `fused_step.cuh`) that the host does not wait for. What became of a step is in its [`Pending`].
//! Contract: a step on a device is the CPU's to the bit, apart from constants that go through `pow` and from the order in
//! which a norm is summed.

#[cfg(feature = "candle")]
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
pub(crate) mod launch;
#[cfg(feature = "candle")]
mod operands;
mod pending;
mod scalar;
mod stats;
#[cfg(feature = "candle")]
mod stepper;
#[cfg(feature = "cuda")]
mod tables;
mod update;

#[cfg(feature = "cuda")]
pub(crate) use cuda::look as look_on_device;
#[cfg(feature = "candle")]
pub use operands::{
    Parameter, SUPPORTED_DEVICES, State, arithmetic, is_float, is_supported, storage_address,
};
#[cfg(feature = "cuda")]
pub(crate) use pending::REMEMBERED;
pub use pending::{Outcome, Pending, Seen, StepCounts, Tally};
pub use scalar::{fused_step_scalar, grad_stats_scalar};
pub use stats::{GradStats, grad_stats};
#[cfg(feature = "candle")]
pub(crate) use stepper::look_on_host;
#[cfg(feature = "candle")]
pub use stepper::{OnNonFinite, Scaling, Settings, Stepper, look};
pub use update::{Buffers, GradTransform, Rule, fused_step, random_bits};

#[cfg(all(doc, feature = "candle"))]
use super::loss_scale::LossScale;
use crate::Real;

/// Where the bits of a weight go that its stored type cannot hold: into a `Full` number of the arithmetic's type, or a
/// `Lost` one of the stored type. In a kernel these are slices, in a [`State`] tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WriteBack<Full, Lost> {
    /// Nowhere: the weight is stored in the arithmetic's type, or rounded to nearest.
    Nearest,
    /// Into a master copy in the arithmetic's type. An element of the weights that is no longer what its master rounds
    /// to was set from outside, and its master starts again from it.
    Master(Full),
    /// Into a second number of the stored type, `weight + compensation` being the weight in full.
    Kahan(Lost),
    /// Into chance: rounded up or down so that the mean is right.
    Stochastic {
        /// In a [`State`] where the randomness starts; in a kernel the key that [`key`] makes of it, which differs between
        /// steps and parameters.
        key: u64,
    },
}

/// The settings of one parameter group, which make a [`Rule`] for each step. Implemented by the rules of this crate.
pub trait RuleSettings: Copy + std::fmt::Debug + Send + Sync + sealed::Sealed {
    /// The same with the learning rate times `rate`.
    #[must_use]
    fn with_rate(self, rate: f64) -> Self;

    /// The rule of a parameter's `step`-th step, counted from 1.
    fn rule<A: Real>(&self, step: u64) -> impl Rule<A>;

    /// How many of the two moments the rule uses.
    fn moments(&self) -> usize {
        self.rule::<f32>(1).moments()
    }

    /// Updates every parameter on a CPU, of which this is the step after those in `steps`. Each rule writes it out with `on_host!`, so
    /// that it is compiled with this crate: as a function of any rule it would be compiled again for whatever has an optimizer.
    #[cfg(feature = "candle")]
    #[doc(hidden)]
    fn on_host(
        groups: &[Self],
        parameters: &[Parameter<'_>],
        steps: &[u64],
        transform: &GradTransform,
    ) -> crate::Result<()>;

    /// The same for a CUDA device, which counts steps itself.
    #[cfg(feature = "cuda")]
    #[doc(hidden)]
    fn on_device(&self) -> launch::DeviceRule;
}

/// [`RuleSettings`]'s `on_host` of a rule.
macro_rules! on_host {
    () => {
        #[cfg(feature = "candle")]
        fn on_host(
            groups: &[Self],
            parameters: &[crate::kernels::step::Parameter<'_>],
            steps: &[u64],
            transform: &crate::kernels::step::GradTransform,
        ) -> crate::Result<()> {
            crate::kernels::step::cpu::update(parameters, groups, steps, transform)
        }
    };
}
pub(crate) use on_host;

pub(crate) mod sealed {
    /// Keeps [`RuleSettings`](super::RuleSettings) to this crate, which has the kernels.
    pub trait Sealed {}
}

/// What to multiply gradients of this norm by: PyTorch's `clip_grad_norm_` formula. NaN where the norm is, which `f64::min`
/// would lose.
pub fn clip_coef(max_norm: f64, norm: f64) -> f64 {
    let coef = max_norm / (norm + 1e-6);
    if coef > 1.0 { 1.0 } else { coef }
}

/// A key of its own for every step of every parameter of an optimizer, as `fused_step.cuh` makes it on a device.
pub fn key(seed: u64, slot: usize, step: u64) -> u64 {
    let first = u64::from(random_bits(seed, slot as u64));
    let second = u64::from(random_bits(seed ^ (first << 32), step));
    (first << 32) | second
}

#[cfg(test)]
mod stats_tests;
#[cfg(feature = "candle")]
#[cfg(test)]
mod stepper_tests;
#[cfg(test)]
mod tests;
