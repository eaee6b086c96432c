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
pub(crate) mod cuda;
mod scalar;

use super::fused_step::Rule;
use crate::Real;

pub use scalar::update_element;

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
    /// Which step of the parameter this is, counted from 1.
    pub step: u64,
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
    /// Prepares a step.
    pub fn new(settings: &Settings) -> Self {
        let Settings { lr, weight_decay, momentum, step } = *settings;
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

    fn update(&self, weights: &mut [A], grads: &mut [A], first: &mut [A], _second: &mut [A]) {
        if self.kind == Kind::Plain {
            for (w, g) in weights.iter_mut().zip(grads) {
                (*w, _) = update_element(self, *w, *g, A::ZERO);
            }
        } else {
            for ((w, g), b) in weights.iter_mut().zip(grads).zip(first) {
                (*w, *b) = update_element(self, *w, *g, *b);
            }
        }
    }
}
