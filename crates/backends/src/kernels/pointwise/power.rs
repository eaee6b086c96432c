//! Powers, as C's `pow` has them: a negative base to an integer, 1 for any base to the power of 0 and for 1 to any power.

use super::forms::unless_zero;

/// `base` to the power of `exponent`; exact where the power is a number of f64.
pub(super) fn power(base: f64, exponent: f64) -> f64 {
    base.powf(exponent)
}

/// The derivative with respect to the base; 0 for the exponent 0, whatever the base.
pub(super) fn power_slope(base: f64, exponent: f64) -> f64 {
    if exponent == 0. {
        return 0.;
    }
    let less = exponent - 1.;
    // A power amplifies the rounding of its exponent; a small exponent, which alone loses digits, lets the power be divided.
    let exact = less + 1. == exponent;
    let divides = base != 0. && base.is_finite();
    if exact || !divides { exponent * power(base, less) } else { exponent * (power(base, exponent) / base) }
}

/// The derivative with respect to the exponent: 0 where the base is 0 and the exponent is not negative.
pub(super) fn power_slope_of_exponent(base: f64, exponent: f64) -> f64 {
    if base == 0. && exponent >= 0. {
        return 0.;
    }
    unless_zero(power(base, exponent), base.ln())
}
