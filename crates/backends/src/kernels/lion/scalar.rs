//! The formula for one element.

use super::Lion;
use crate::Real;

/// Maps a weight, its unscaled gradient and its mean to the new weight and mean.
#[inline(always)]
pub fn update_element<A: Real>(rule: &Lion<A>, w: A, g: A, m: A) -> (A, A) {
    let direction = m * rule.beta1 + rule.one_minus_beta1 * g;
    let moved = if direction > A::ZERO {
        rule.lr
    } else if direction < A::ZERO {
        -rule.lr
    } else {
        // Zero stays zero and NaN stays NaN.
        direction
    };
    (w * rule.keep - moved, m * rule.beta2 + rule.one_minus_beta2 * g)
}
