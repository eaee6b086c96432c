//! Rounding an f64 to a format: to nearest with ties to even, or stochastically. These are oracles: exact, written once
//! for all formats, and not fast. Kernels are held to them.
//!
//! Both work on the number line of the format: its non-negative values numbered from zero upwards (their ordinals). A
//! real number lies at some ordinal plus a fraction of the gap that follows, and rounding is the choice of one of the
//! gap's two ends. Overflow needs no rule of its own: one step above the largest value is infinity, or in
//! [`FloatFormat::F8E4M3`], which has none, NaN.

use half::{bf16, f16};

use crate::{FloatFormat, format::power_of_two};

/// Rounds to the nearest value of `format`, a tie to the one with an even mantissa.
///
/// Subnormal results are rounded like all others and the sign of zero is kept. A number half a step or more above
/// [`max`](FloatFormat::max) overflows (in `F8E4M3`, whose largest mantissa is even, more than half a step): to
/// infinity, or in `F8E4M3` to NaN, as PyTorch casts. Clamp first where saturation is wanted. NaN stays NaN.
pub fn round_nearest_even(value: f64, format: FloatFormat) -> f64 {
    format.from_bits(format.to_bits(value))
}

/// Rounds up or down at random, so that the mean over all `random_bits` is `value`.
///
/// The result is one of the two values of `format` around `value`. The one farther from zero is taken with probability
/// equal to `value`'s position between them: `random_bits`, read as a fraction of 2⁶⁴, is added to the position and
/// carries. Positions that are no multiple of 2⁻⁶⁴ are cut to one. The values of `format` themselves are unchanged,
/// whatever the bits. A source of 16 random bits `r` is passed as `r << 48`.
///
/// Above [`max`](FloatFormat::max) the farther value is infinity, or in `F8E4M3` NaN. NaN stays NaN.
///
/// # Source
///
/// Gupta et al., "Deep Learning with Limited Numerical Precision" (2015).
pub fn round_stochastic(value: f64, format: FloatFormat, random_bits: u64) -> f64 {
    let bits = encode(value, format, |place| place.fraction.overflowing_add(random_bits).1);
    format.from_bits(bits)
}

/// The nearest f16, ties to even.
///
/// `half::f16::from_f64` is not used for this: it looks at too few of the f64's bits and misses by one where the tie is
/// broken far down, as in 1 + 2⁻¹¹ + 2⁻⁴⁰. From f32 and to f64, `half` is exact.
pub fn f16_from_f64(value: f64) -> f16 {
    f16::from_bits(FloatFormat::F16.to_bits(value) as u16)
}

/// The nearest bf16, ties to even. See [`f16_from_f64`] for why `half`'s own conversion is not used.
pub fn bf16_from_f64(value: f64) -> bf16 {
    bf16::from_bits(FloatFormat::Bf16.to_bits(value) as u16)
}

impl FloatFormat {
    /// The bit pattern of the value nearest to `value`, ties to even, in the low [`bits`](Self::bits) bits.
    ///
    /// Overflow is as in [`round_nearest_even`]. A NaN becomes the quiet NaN of its sign; its payload is dropped.
    pub fn to_bits(self, value: f64) -> u64 {
        encode(value, self, |place| {
            const HALF: u64 = 1 << 63;
            place.fraction > HALF || (place.fraction == HALF && place.ordinal % 2 == 1)
        })
    }

    /// The unit in the last place at `value`: the spacing of this format's values in the binade that holds `value`.
    ///
    /// Below the smallest normal number it is the spacing of the subnormals, and beyond the largest value that of the
    /// highest binade. It is NaN at NaN and at the infinities.
    pub fn ulp(self, value: f64) -> f64 {
        if value.is_finite() { power_of_two(self.quantum(Parts::of(value))) } else { f64::NAN }
    }

    /// The exponent of the spacing of this format's values around a number.
    fn quantum(self, parts: Parts) -> i32 {
        let highest = self.bias() + i32::from(!self.has_infinity());
        parts.leading().clamp(self.min_exponent(), highest) - self.mantissa_bits() as i32
    }
}

/// Where a magnitude lies on a format's number line: `fraction`/2⁶⁴ of the way from `ordinal` to the one after it.
struct Place {
    ordinal: u64,
    fraction: u64,
}

/// The magnitude of a finite f64, as `significand` · 2^`exponent`.
#[derive(Clone, Copy)]
struct Parts {
    significand: u64,
    exponent: i32,
}

impl Parts {
    fn of(value: f64) -> Self {
        let bits = value.to_bits() & FloatFormat::F64.ordinal_mask();
        let mantissa = bits & ((1 << 52) - 1);
        match (bits >> 52) as i32 {
            0 => Self { significand: mantissa, exponent: -1074 },
            field => Self { significand: mantissa | 1 << 52, exponent: field - 1075 },
        }
    }

    /// The exponent of the leading bit of a normal f64; -1022 for a subnormal one, where no format's spacing depends
    /// on it any more.
    fn leading(self) -> i32 {
        self.exponent + 52
    }
}

fn place(value: f64, format: FloatFormat) -> Place {
    let parts = Parts::of(value);
    let overflow = Place { ordinal: format.max_ordinal() + 1, fraction: 0 };
    let quantum = format.quantum(parts);
    // An f64 is no coarser than any format around the same number, except beyond the format's last binade.
    let Ok(shift) = u32::try_from(quantum - parts.exponent) else { return overflow };

    let whole = parts.significand.checked_shr(shift).unwrap_or(0);
    let fraction = match shift {
        0 => 0,
        1..=64 => parts.significand << (64 - shift),
        _ => parts.significand.checked_shr(shift - 64).unwrap_or(0),
    };
    // `whole` still has its leading bit, which adds one to the exponent field of a normal number.
    let ordinal = (((quantum - format.min_quantum()) as u64) << format.mantissa_bits()) + whole;
    if ordinal > format.max_ordinal() { overflow } else { Place { ordinal, fraction } }
}

fn encode(value: f64, format: FloatFormat, away_from_zero: impl Fn(&Place) -> bool) -> u64 {
    let sign = if value.is_sign_negative() { format.sign_mask() } else { 0 };
    if value.is_nan() {
        return sign | format.nan_ordinal();
    }
    if value.is_infinite() {
        return sign | (format.max_ordinal() + 1);
    }
    let place = place(value, format);
    sign | (place.ordinal + u64::from(away_from_zero(&place)))
}
