//! The formula for one element.

use super::{AdamW, Lerp};
use crate::Real;

/// Maps a weight, its unscaled gradient and its two moments to the new weight and moments.
#[inline(always)]
pub fn update_element<A: Real>(rule: &AdamW<A>, w: A, g: A, m: A, v: A) -> (A, A, A) {
    // `0 * w` is NaN for an infinite weight: without L2 decay the gradient must not see the weight.
    let g = if rule.l2 == A::ZERO { g } else { g + rule.l2 * w };
    let w = w * rule.keep;
    let m = match rule.mean {
        Lerp::FromStart(weight) => m + weight * (g - m),
        Lerp::FromEnd(rest) => g - (g - m) * rest,
    };
    let v = v * rule.beta2 + rule.one_minus_beta2 * g * g;
    let denominator = v.sqrt() / rule.root_correction + rule.eps;
    (w + rule.neg_step_size * m / denominator, m, v)
}
