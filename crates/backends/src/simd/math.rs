//! Functions that are computed for many elements at once.

use super::Simd;

/// `e^x` for `x` up to 0 and a little above (where the result is finite): within 1 ULP of f32 with fused multiply-adds and 2
/// without, subnormal results included. NaN stays NaN, −∞ gives 0.
///
/// `x = n · ln 2 + r` with `|r| ≤ ln 2 / 2`; `e^r` is a polynomial of degree 7, of which the Taylor remainder is below
/// `2⁻²⁷`, and `2ⁿ` is applied in two steps so that it may be subnormal.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: f32) -> f32 {
    /// Everything below rounds to 0.
    const LOW: f32 = -105.;
    const HIGH: f32 = 88.722_84;
    /// `1.5 · 2²³`: adding it rounds to an integer, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = if x < LOW { LOW } else { x };
    let x = if x > HIGH { HIGH } else { x };
    let shifted = simd.mul_add(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = simd.mul_add(n, -LN2_LOW, simd.mul_add(n, -LN2_HIGH, x));
    let mut p = 1. / 5040.;
    for c in [1. / 720., 1. / 120., 1. / 24., 1. / 6., 0.5] {
        p = simd.mul_add(p, r, c);
    }
    // e^r = 1 + (r + r² · p): the small part is rounded before the 1 is added.
    let p = simd.mul_add(p, r * r, r) + 1.;
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// Writes [`exp`] of each `x − from`.
#[inline(always)]
pub(crate) fn exps<S: Simd>(simd: S, x: &[f32], from: f32, to: &mut [f32]) {
    for (to, &x) in to.iter_mut().zip(x) {
        *to = exp(simd, x - from);
    }
}

/// `2ⁿ` for a normal result.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}
