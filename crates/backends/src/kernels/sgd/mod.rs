//! Gradient descent, plain, with momentum, and with Nesterov's.
//!
//! ```text
//! g  = g + weight_decay * w
//! b  = g                                       (first step)
//! b  = momentum * b + (1 - dampening) * g      (later)
//! w  = w - lr * g                              (no momentum)
//! w  = w - lr * b                              (momentum)
//! w  = w - lr * (g + momentum * b)             (Nesterov)
//! ```
//!
//! Each operation is rounded on its own, in PyTorch's order.
//!
//! # Source
//!
//! Sutskever et al. (2013), in the form of `torch/optim/sgd.py`, `_single_tensor_sgd`.

#[cfg(feature = "cuda")]
use super::step::launch::DeviceRule;
use super::step::{Rule, RuleSettings, on_host, sealed::Sealed};
use crate::Real;
#[cfg(feature = "cuda")]
use crate::cuda::module;

/// What the momentum buffer does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Momentum {
    /// There is none.
    None,
    /// The weights follow the buffer.
    Heavy {
        /// How much of the buffer stays.
        momentum: f64,
        /// How much of the gradient is kept out of it.
        dampening: f64,
    },
    /// The weights follow the gradient as it would be one step ahead.
    Nesterov {
        /// How much of the buffer stays.
        momentum: f64,
    },
}

/// The settings of one step of one parameter group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The learning rate.
    pub lr: f64,
    /// `weight_decay * w` is added to the gradient.
    pub weight_decay: f64,
    /// The momentum.
    pub momentum: Momentum,
}

impl Sealed for Settings {}

impl RuleSettings for Settings {
    fn with_rate(self, rate: f64) -> Self {
        Self { lr: self.lr * rate, ..self }
    }

    fn rule<A: Real>(&self, step: u64) -> impl Rule<A> {
        Sgd::new(self, step)
    }

    on_host!();

    #[cfg(feature = "cuda")]
    fn on_device(&self) -> DeviceRule {
        let (prefix, momentum, dampening, nesterov) = match self.momentum {
            Momentum::None => ("sgd_plain", 0.0, 0.0, 0),
            Momentum::Heavy { momentum, dampening } => ("sgd_momentum", momentum, dampening, 0),
            Momentum::Nesterov { momentum } => ("sgd_momentum", momentum, 0.0, 1),
        };
        let [lr, momentum, dampening, decay] =
            [self.lr, momentum, dampening, self.weight_decay].map(f64::to_bits);
        let words = [lr, momentum, dampening, decay, nesterov, 0];
        DeviceRule { module: module!("sgd"), prefix, words }
    }
}

/// The rule of one step, its constants rounded to the arithmetic's type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd<A> {
    neg_lr: A,
    weight_decay: A,
    momentum: A,
    one_minus_dampening: A,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    FirstStep { nesterov: bool },
    Later { nesterov: bool },
}

impl<A: Real> Sgd<A> {
    /// Prepares a parameter's `step`-th step, counted from 1.
    pub fn new(settings: &Settings, step: u64) -> Self {
        let Settings { lr, weight_decay, momentum } = *settings;
        let (kept, dampening, nesterov) = match momentum {
            Momentum::None => (0.0, 0.0, None),
            Momentum::Heavy { momentum, dampening } => (momentum, dampening, Some(false)),
            Momentum::Nesterov { momentum } => (momentum, 0.0, Some(true)),
        };
        let kind = match nesterov {
            None => Kind::Plain,
            Some(nesterov) if step <= 1 => Kind::FirstStep { nesterov },
            Some(nesterov) => Kind::Later { nesterov },
        };
        Self {
            neg_lr: A::from_f64(-lr),
            weight_decay: A::from_f64(weight_decay),
            momentum: A::from_f64(kept),
            one_minus_dampening: A::from_f64(1.0 - dampening),
            kind,
        }
    }
}

impl<A: Real> Rule<A> for Sgd<A> {
    fn moments(&self) -> usize {
        usize::from(self.kind != Kind::Plain)
    }

    #[inline(always)]
    fn update(&self, weights: &mut [A], grads: &mut [A], first: &mut [A], _second: &mut [A]) {
        // `0 * w` is NaN for an infinite weight: without decay the gradient must not see the weight.
        if self.weight_decay != A::ZERO {
            grads.iter_mut().zip(&*weights).for_each(|(g, &w)| *g = *g + self.weight_decay * w);
        }
        let nesterov = match self.kind {
            Kind::Plain => {
                return weights.iter_mut().zip(grads).for_each(|(w, g)| *w = *w + self.neg_lr * *g);
            }
            Kind::FirstStep { nesterov } => {
                first.copy_from_slice(grads);
                nesterov
            }
            Kind::Later { nesterov } => {
                let next = |b: A, g: A| b * self.momentum + self.one_minus_dampening * g;
                first.iter_mut().zip(&*grads).for_each(|(b, &g)| *b = next(*b, g));
                nesterov
            }
        };
        if nesterov {
            grads.iter_mut().zip(&*first).for_each(|(g, &b)| *g = *g + self.momentum * b);
            weights.iter_mut().zip(grads).for_each(|(w, g)| *w = *w + self.neg_lr * *g);
        } else {
            weights.iter_mut().zip(first).for_each(|(w, b)| *w = *w + self.neg_lr * *b);
        }
    }
}
