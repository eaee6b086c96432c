//! The float formats: how many bits, which range, which spacing, and what their bit patterns mean. How a number that
//! lies between two of a format's values is rounded is in `rounding`.

use std::fmt;

/// A binary floating-point format.
///
/// All are laid out as sign, exponent, mantissa. All but `F8E4M3` follow IEEE 754: the highest exponent is kept for
/// infinities and NaNs. Every value of every format is exactly an f64, which is why this crate's arithmetic is in f64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FloatFormat {
    /// OCP FP8 E4M3 (PyTorch's `float8_e4m3fn`): no infinity, one NaN of each sign, largest value 448.
    F8E4M3,
    /// OCP FP8 E5M2 (PyTorch's `float8_e5m2`): laid out as IEEE 754 would, with infinities.
    F8E5M2,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of an f32.
    Bf16,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
}

impl FloatFormat {
    /// Every format, narrowest first.
    pub const ALL: [Self; 6] = [Self::F8E4M3, Self::F8E5M2, Self::F16, Self::Bf16, Self::F32, Self::F64];

    /// The format's short name, such as `"bf16"` or `"f8e4m3"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::F8E4M3 => "f8e4m3",
            Self::F8E5M2 => "f8e5m2",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }

    /// The width of the exponent field.
    pub const fn exponent_bits(self) -> u32 {
        match self {
            Self::F8E4M3 => 4,
            Self::F8E5M2 | Self::F16 => 5,
            Self::Bf16 | Self::F32 => 8,
            Self::F64 => 11,
        }
    }

    /// The width of the mantissa field, without the implicit leading bit.
    pub const fn mantissa_bits(self) -> u32 {
        match self {
            Self::F8E4M3 => 3,
            Self::F8E5M2 => 2,
            Self::F16 => 10,
            Self::Bf16 => 7,
            Self::F32 => 23,
            Self::F64 => 52,
        }
    }

    /// The width of the whole number: sign, exponent and mantissa.
    pub const fn bits(self) -> u32 {
        1 + self.exponent_bits() + self.mantissa_bits()
    }

    /// What is subtracted from a normal number's exponent field to give its exponent.
    pub const fn bias(self) -> i32 {
        (1 << (self.exponent_bits() - 1)) - 1
    }

    /// The exponent of the smallest normal number, and of every subnormal one.
    pub const fn min_exponent(self) -> i32 {
        1 - self.bias()
    }

    /// Whether the format has infinities. Where it has none, what overflows is NaN.
    pub const fn has_infinity(self) -> bool {
        !matches!(self, Self::F8E4M3)
    }

    /// The largest finite value.
    pub const fn max(self) -> f64 {
        self.value_at(self.max_ordinal())
    }

    /// The smallest positive normal value.
    pub const fn min_normal(self) -> f64 {
        power_of_two(self.min_exponent())
    }

    /// The smallest positive value.
    pub const fn min_subnormal(self) -> f64 {
        power_of_two(self.min_quantum())
    }

    /// The spacing of values just above 1 (machine epsilon, as in `f32::EPSILON`).
    pub const fn epsilon(self) -> f64 {
        power_of_two(-(self.mantissa_bits() as i32))
    }

    /// The largest relative error of rounding to nearest within the normal range: half of [`epsilon`](Self::epsilon).
    pub const fn unit_roundoff(self) -> f64 {
        power_of_two(-(self.mantissa_bits() as i32) - 1)
    }

    /// The value of a bit pattern. Bits above the format's width are ignored.
    pub const fn from_bits(self, bits: u64) -> f64 {
        let magnitude = self.decode_ordinal(bits & self.ordinal_mask());
        if bits & self.sign_mask() == 0 { magnitude } else { -magnitude }
    }

    /// The exponent of the spacing of subnormal values.
    pub(crate) const fn min_quantum(self) -> i32 {
        self.min_exponent() - self.mantissa_bits() as i32
    }

    pub(crate) const fn sign_mask(self) -> u64 {
        1 << (self.bits() - 1)
    }

    /// Everything but the sign. What it leaves of a bit pattern is its *ordinal*: zero is 0, the smallest subnormal 1,
    /// and so on upwards without a gap, because a carry out of the mantissa field is the next exponent.
    pub(crate) const fn ordinal_mask(self) -> u64 {
        self.sign_mask() - 1
    }

    /// The ordinal of the largest finite value. The one after it is infinity, or the NaN where there is none.
    pub(crate) const fn max_ordinal(self) -> u64 {
        match self {
            // The highest exponent holds numbers too; only its last mantissa is a NaN.
            Self::F8E4M3 => self.ordinal_mask() - 1,
            _ => self.infinity_ordinal_ieee() - 1,
        }
    }

    /// The ordinal of the quiet NaN with no payload.
    pub(crate) const fn nan_ordinal(self) -> u64 {
        match self {
            Self::F8E4M3 => self.ordinal_mask(),
            _ => self.infinity_ordinal_ieee() | 1 << (self.mantissa_bits() - 1),
        }
    }

    const fn infinity_ordinal_ieee(self) -> u64 {
        ((1 << self.exponent_bits()) - 1) << self.mantissa_bits()
    }

    pub(crate) const fn decode_ordinal(self, ordinal: u64) -> f64 {
        if ordinal <= self.max_ordinal() {
            self.value_at(ordinal)
        } else if self.has_infinity() && ordinal == self.max_ordinal() + 1 {
            f64::INFINITY
        } else {
            f64::NAN
        }
    }

    /// The value of a finite ordinal, exactly: an integer of at most 53 bits times a power of two.
    const fn value_at(self, ordinal: u64) -> f64 {
        let mantissa_bits = self.mantissa_bits();
        let exponent_field = (ordinal >> mantissa_bits) as i32;
        let mantissa = ordinal & ((1 << mantissa_bits) - 1);
        if exponent_field == 0 {
            mantissa as f64 * power_of_two(self.min_quantum())
        } else {
            (mantissa | 1 << mantissa_bits) as f64 * power_of_two(self.min_quantum() + exponent_field - 1)
        }
    }
}

impl fmt::Display for FloatFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// 2 to the `exponent`, which is between f64's least subnormal (-1074) and greatest (1023) exponent.
pub(crate) const fn power_of_two(exponent: i32) -> f64 {
    if exponent >= -1022 {
        f64::from_bits(((exponent + 1023) as u64) << 52)
    } else {
        f64::from_bits(1 << (exponent + 1074))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

    #[test]
    fn the_facts_are_the_published_ones() {
        // bits, exponent, mantissa, bias, max, min normal, min subnormal, epsilon, infinity
        let facts = |f: FloatFormat| {
            let widths = (f.bits(), f.exponent_bits(), f.mantissa_bits(), f.bias(), f.has_infinity());
            (widths, [f.max(), f.min_normal(), f.min_subnormal(), f.epsilon()])
        };
        let two = 2.0_f64;
        let expected = [
            ((8, 4, 3, 7, false), [448.0, two.powi(-6), two.powi(-9), 0.125]),
            ((8, 5, 2, 15, true), [57344.0, two.powi(-14), two.powi(-16), 0.25]),
            (
                (16, 5, 10, 15, true),
                [
                    f16::MAX.to_f64(),
                    f16::MIN_POSITIVE.to_f64(),
                    f16::MIN_POSITIVE_SUBNORMAL.to_f64(),
                    f16::EPSILON.to_f64(),
                ],
            ),
            (
                (16, 8, 7, 127, true),
                [
                    bf16::MAX.to_f64(),
                    bf16::MIN_POSITIVE.to_f64(),
                    bf16::MIN_POSITIVE_SUBNORMAL.to_f64(),
                    bf16::EPSILON.to_f64(),
                ],
            ),
            (
                (32, 8, 23, 127, true),
                [f32::MAX.into(), f32::MIN_POSITIVE.into(), f32::from_bits(1).into(), f32::EPSILON.into()],
            ),
            ((64, 11, 52, 1023, true), [f64::MAX, f64::MIN_POSITIVE, f64::from_bits(1), f64::EPSILON]),
        ];
        assert_eq!(FloatFormat::ALL.map(facts), expected);
    }

    #[test]
    fn facts_are_available_in_constants() {
        const MAX: f64 = FloatFormat::F16.max();
        const HALF_STEP: f64 = FloatFormat::F16.unit_roundoff();
        assert_eq!((MAX, HALF_STEP), (65504.0, 2.0_f64.powi(-11)));
    }

    #[test]
    fn bits_above_the_width_are_ignored() {
        assert_eq!(FloatFormat::F16.from_bits(0xffff_0000_0001_3c00), 1.0);
        assert_eq!(FloatFormat::F8E4M3.from_bits(0x1_b8), -1.0);
    }
}
