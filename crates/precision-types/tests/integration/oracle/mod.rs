//! The values of the small formats by another route than the crate's own (`half`, or the textbook formula), and f64s to
//! round to them.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use half::{bf16, f16};
use precision_types::FloatFormat;
use proptest::prelude::*;

pub const SMALL: [FloatFormat; 4] =
    [FloatFormat::F8E4M3, FloatFormat::F8E5M2, FloatFormat::F16, FloatFormat::Bf16];

/// What a bit pattern means, by another route than the crate's.
pub fn meaning(format: FloatFormat, bits: u64) -> f64 {
    match format {
        FloatFormat::F16 => f16::from_bits(bits as u16).to_f64(),
        FloatFormat::Bf16 => bf16::from_bits(bits as u16).to_f64(),
        // E5M2 is the upper half of an f16.
        FloatFormat::F8E5M2 => f16::from_bits((bits as u16) << 8).to_f64(),
        FloatFormat::F8E4M3 => {
            let sign = if bits & 0x80 == 0 { 1.0 } else { -1.0 };
            let (exponent, mantissa) = ((bits >> 3 & 0xf) as i32, (bits & 7) as f64);
            match (exponent, bits & 7) {
                (15, 7) => f64::NAN,
                (0, _) => sign * mantissa / 8.0 * 2.0_f64.powi(-6),
                _ => sign * (1.0 + mantissa / 8.0) * 2.0_f64.powi(exponent - 7),
            }
        }
        FloatFormat::F32 => f32::from_bits(bits as u32).into(),
        FloatFormat::F64 => f64::from_bits(bits),
    }
}

pub fn all_bits(format: FloatFormat) -> std::ops::Range<u64> {
    0..1 << format.bits()
}

/// The non-negative finite values in rising order; the index of each is its bit pattern.
pub fn magnitudes(format: FloatFormat) -> Vec<f64> {
    let values = all_bits(format).map(|bits| meaning(format, bits));
    values.take_while(|value| value.is_finite()).collect()
}

/// Any bit pattern, with the exponents where small formats live as likely as all the others.
pub fn any_f64() -> impl Strategy<Value = f64> {
    let near = (any::<bool>(), -160..160_i32, 0_u64..1 << 52).prop_map(|(negative, exponent, mantissa)| {
        let field = (1023 + exponent) as u64;
        f64::from_bits(u64::from(negative) << 63 | field << 52 | mantissa)
    });
    prop_oneof![any::<u64>().prop_map(f64::from_bits), near]
}
