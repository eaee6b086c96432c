//! Lion: every weight moves by the learning rate, in the direction of a sign.
//!
//! ```text
//! w  = w * (1 - lr * weight_decay)
//! w  = w - lr * sign(beta1 * m + (1 - beta1) * g)
//! m  = beta2 * m + (1 - beta2) * g
//! ```
//!
//! `sign(±0)` is 0 and `sign(NaN)` is NaN. Each operation is rounded on its own.
//!
//! # Source
//!
//! Chen et al., *Symbolic Discovery of Optimization Algorithms* (2023), algorithm 2.

#[cfg(feature = "cuda")]
use super::step::launch::DeviceRule;
use super::step::{Rule, RuleSettings, on_host, sealed::Sealed};
use crate::Real;
#[cfg(feature = "cuda")]
use crate::cuda::module;

/// The settings of one step of one parameter group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The learning rate.
    pub lr: f64,
    /// How much of the mean goes into the direction, and how much of it is kept.
    pub betas: (f64, f64),
    /// Weights shrink by `lr * weight_decay`.
    pub weight_decay: f64,
}

impl Sealed for Settings {}

impl RuleSettings for Settings {
    fn with_rate(self, rate: f64) -> Self {
        Self { lr: self.lr * rate, ..self }
    }

    fn rule<A: Real>(&self, _step: u64) -> impl Rule<A> {
        Lion::new(self)
    }

    on_host!();

    #[cfg(feature = "cuda")]
    fn on_device(&self) -> DeviceRule {
        let [lr, beta1, beta2, decay] =
            [self.lr, self.betas.0, self.betas.1, self.weight_decay].map(f64::to_bits);
        let words = [lr, beta1, beta2, decay, 0, 0];
        DeviceRule { module: module!("lion"), prefix: "lion", words }
    }
}

/// The rule of one step, its constants rounded to the arithmetic's type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lion<A> {
    lr: A,
    keep: A,
    beta1: A,
    one_minus_beta1: A,
    beta2: A,
    one_minus_beta2: A,
}

impl<A: Real> Lion<A> {
    /// Prepares a step.
    pub fn new(settings: &Settings) -> Self {
        let Settings { lr, betas: (beta1, beta2), weight_decay } = *settings;
        Self {
            lr: A::from_f64(lr),
            keep: A::from_f64(1.0 - lr * weight_decay),
            beta1: A::from_f64(beta1),
            one_minus_beta1: A::from_f64(1.0 - beta1),
            beta2: A::from_f64(beta2),
            one_minus_beta2: A::from_f64(1.0 - beta2),
        }
    }
}

impl<A: Real> Rule<A> for Lion<A> {
    fn moments(&self) -> usize {
        1
    }

    #[inline(always)]
    fn update(&self, weights: &mut [A], grads: &mut [A], first: &mut [A], _second: &mut [A]) {
        for ((w, g), m) in weights.iter_mut().zip(grads).zip(first) {
            (*w, *m) = self.element(*w, *g, *m);
        }
    }
}

impl<A: Real> Lion<A> {
    /// Maps a weight, its unscaled gradient and its mean to the new weight and mean.
    #[inline(always)]
    fn element(&self, w: A, g: A, m: A) -> (A, A) {
        let direction = m * self.beta1 + self.one_minus_beta1 * g;
        let moved = if direction > A::ZERO {
            self.lr
        } else if direction < A::ZERO {
            -self.lr
        } else {
            // Zero stays zero and NaN stays NaN.
            direction
        };
        (w * self.keep - moved, m * self.beta2 + self.one_minus_beta2 * g)
    }
}
