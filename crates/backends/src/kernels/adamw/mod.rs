//! AdamW and Adam: an exponential mean of the gradient over the root of one of its square.
//!
//! ```text
//! g  = g + l2 * w                           (Adam)
//! w  = w * (1 - lr * weight_decay)          (AdamW)
//! m  = m + (1 - beta1) * (g - m)
//! v  = v * beta2 + (1 - beta2) * g * g
//! w  = w - step_size * m / (sqrt(v) / sqrt(1 - beta2^t) + eps),   step_size = lr / (1 - beta1^t)
//! ```
//!
//! The order of operations is that of PyTorch's single-tensor loop, each rounded on its own (no fused multiply-add), so
//! that devices agree. Constants are computed in f64 and rounded once.
//!
//! # Source
//!
//! Kingma and Ba (2015); Loshchilov and Hutter (2019); `torch/optim/adam.py`, `_single_tensor_adam`.

#[cfg(feature = "cuda")]
use super::step::launch::DeviceRule;
use super::step::{Rule, RuleSettings, on_host, sealed::Sealed};
use crate::Real;
#[cfg(feature = "cuda")]
use crate::cuda::module;

/// How weight decay reaches the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decay {
    /// AdamW: the weights shrink by `lr * weight_decay`, apart from the gradient.
    Decoupled(f64),
    /// Adam: `weight_decay * w` is added to the gradient.
    L2(f64),
}

/// The settings of one step of one parameter group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The learning rate.
    pub lr: f64,
    /// The decay rates of the two means.
    pub betas: (f64, f64),
    /// Added to the root, against division by zero.
    pub eps: f64,
    /// The weight decay.
    pub decay: Decay,
}

impl Sealed for Settings {}

impl RuleSettings for Settings {
    fn with_rate(self, rate: f64) -> Self {
        Self { lr: self.lr * rate, ..self }
    }

    fn rule<A: Real>(&self, step: u64) -> impl Rule<A> {
        AdamW::new(self, step)
    }

    on_host!();

    #[cfg(feature = "cuda")]
    fn on_device(&self) -> DeviceRule {
        let (decoupled, l2) = match self.decay {
            Decay::Decoupled(decay) => (decay, 0.0),
            Decay::L2(decay) => (0.0, decay),
        };
        let words = [self.lr, self.betas.0, self.betas.1, self.eps, decoupled, l2].map(f64::to_bits);
        DeviceRule { module: module!("adamw"), prefix: "adamw", words }
    }
}

/// The rule of one step, its constants rounded to the arithmetic's type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW<A> {
    l2: A,
    keep: A,
    mean: Lerp<A>,
    beta2: A,
    one_minus_beta2: A,
    root_correction: A,
    eps: A,
    neg_step_size: A,
}

/// `m + weight * (g - m)`, written around the nearer end as PyTorch's `lerp` is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lerp<A> {
    FromStart(A),
    FromEnd(A),
}

impl<A: Real> AdamW<A> {
    /// Prepares a parameter's `step`-th step, counted from 1.
    pub fn new(settings: &Settings, step: u64) -> Self {
        let Settings { lr, betas: (beta1, beta2), eps, decay } = *settings;
        let correction1 = 1.0 - beta1.powf(step as f64);
        let correction2 = 1.0 - beta2.powf(step as f64);
        let weight = 1.0 - beta1;
        let (l2, keep) = match decay {
            Decay::Decoupled(decay) => (0.0, 1.0 - lr * decay),
            Decay::L2(decay) => (decay, 1.0),
        };
        let mean = if weight < 0.5 {
            Lerp::FromStart(A::from_f64(weight))
        } else {
            Lerp::FromEnd(A::ONE - A::from_f64(weight))
        };
        Self {
            l2: A::from_f64(l2),
            keep: A::from_f64(keep),
            mean,
            beta2: A::from_f64(beta2),
            one_minus_beta2: A::from_f64(1.0 - beta2),
            root_correction: A::from_f64(correction2.sqrt()),
            eps: A::from_f64(eps),
            neg_step_size: A::from_f64(-(lr / correction1)),
        }
    }
}

impl<A: Real> Rule<A> for AdamW<A> {
    fn moments(&self) -> usize {
        2
    }

    #[inline(always)]
    fn update(&self, weights: &mut [A], grads: &mut [A], first: &mut [A], second: &mut [A]) {
        // `0 * w` is NaN for an infinite weight: without L2 decay the gradient must not see the weight.
        if self.l2 != A::ZERO {
            grads.iter_mut().zip(&*weights).for_each(|(g, &w)| *g = *g + self.l2 * w);
        }
        let moments = first.iter_mut().zip(&*grads);
        match self.mean {
            Lerp::FromStart(weight) => moments.for_each(|(m, &g)| *m = *m + weight * (g - *m)),
            Lerp::FromEnd(rest) => moments.for_each(|(m, &g)| *m = g - (g - *m) * rest),
        }
        for (((w, &g), &m), v) in weights.iter_mut().zip(&*grads).zip(&*first).zip(second) {
            *v = *v * self.beta2 + self.one_minus_beta2 * g * g;
            let denominator = v.sqrt() / self.root_correction + self.eps;
            *w = *w * self.keep + self.neg_step_size * m / denominator;
        }
    }
}
