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

/// `e^x`, subnormal results included: within 1 ULP of f64 with fused multiply-adds and 2 without. NaN stays NaN.
///
/// `x = n · ln 2 + r` with `|r| ≤ ln 2 / 2`; the Taylor series of `e^r` to the 13th power leaves less than 2⁻⁵⁶, and its terms from the
/// second on are added to 1 last. `2ⁿ` is multiplied by halves, since it may be smaller than any normal number.
#[inline(always)]
pub(crate) fn exp_f64<S: Simd>(simd: S, x: f64) -> f64 {
    /// `1.5 · 2⁵²`: adding it rounds to an integer, which then stands in the lowest bits.
    const ROUND: f64 = 6_755_399_441_055_744.;
    const LN2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    const SERIES: [f64; 11] = [
        1. / 479_001_600.,
        1. / 39_916_800.,
        1. / 3_628_800.,
        1. / 362_880.,
        1. / 40_320.,
        1. / 5_040.,
        1. / 720.,
        1. / 120.,
        1. / 24.,
        1. / 6.,
        0.5,
    ];
    // Below, 0; above, infinite.
    let x = if x < -800. { -800. } else { x };
    let x = if x > 800. { 800. } else { x };
    let n = simd.mul_add_f64(x, std::f64::consts::LOG2_E, ROUND) - ROUND;
    let high = simd.mul_add_f64(n, -LN2_HIGH, x);
    let r = simd.mul_add_f64(n, -LN2_LOW, high);
    // What the rounding of `r` lost.
    let lost = simd.mul_add_f64(n, -LN2_LOW, high - r);
    let mut p = 1. / 6_227_020_800.;
    for c in SERIES {
        p = simd.mul_add_f64(p, r, c);
    }
    // `1 + (r + (r² p + lost))`.
    let p = 1. + (r + simd.mul_add_f64(r * r, p, lost));
    let half = simd.mul_add_f64(n, 0.5, ROUND);
    let rest = n - (half - ROUND) + ROUND;
    let power = |shifted: f64| {
        f64::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(1023) << 52)
    };
    p * power(half) * power(rest)
}

/// Writes [`exp`] of each `x − from`.
#[inline(always)]
pub(crate) fn exps<S: Simd>(simd: S, x: &[f32], from: f32, to: &mut [f32]) {
    for (to, &x) in to.iter_mut().zip(x) {
        *to = exp(simd, x - from);
    }
}

/// `2ⁿ` for a normal result, `−127 < n < 128`.
#[inline(always)]
pub(crate) fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}
