//! The formula for one element.

use super::{Kind, Sgd};
use crate::Real;

/// Maps a weight, its unscaled gradient and its momentum buffer to the new weight and buffer.
#[inline(always)]
pub fn update_element<A: Real>(rule: &Sgd<A>, w: A, g: A, b: A) -> (A, A) {
    // `0 * w` is NaN for an infinite weight: without decay the gradient must not see the weight.
    let g = if rule.weight_decay == A::ZERO { g } else { g + rule.weight_decay * w };
    let (b, nesterov) = match rule.kind {
        Kind::Plain => return (w + rule.neg_lr * g, b),
        Kind::FirstStep { nesterov } => (g, nesterov),
        Kind::Later { nesterov } => (b * rule.momentum + rule.one_minus_dampening * g, nesterov),
    };
    let direction = if nesterov { g + rule.momentum * b } else { b };
    (w + rule.neg_lr * direction, b)
}
