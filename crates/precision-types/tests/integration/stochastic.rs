//! Stochastic rounding: one of the two neighbours, unbiased, and the same function as a kernel's add-and-truncate.

use crate::oracle::any_f64;
use precision_types::{FloatFormat, round_nearest_even, round_stochastic};
use proptest::prelude::*;

/// All 2¹⁶ values of a 16-bit random source, on f32s whose position between two bf16s is a multiple of 2⁻¹⁶: their mean
/// is the f32, exactly.
#[test]
fn stochastic_rounding_is_unbiased_over_all_random_bits() {
    let bases = [0x3f80_0000_u32, 0x4049_0000, 0x0001_0000, 0x0000_0000, 0x7f7e_0000, 0xc2c8_0000];
    for base in bases {
        for low in [0_u32, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
            let value = f64::from(f32::from_bits(base | low));
            let [below, above] = [base, base + 0x1_0000].map(|bits| f64::from(f32::from_bits(bits)));
            let away = (0..=u64::from(u16::MAX))
                .map(|random| round_stochastic(value, FloatFormat::Bf16, random << 48))
                .inspect(|rounded| assert!(*rounded == below || *rounded == above, "{value:e} {rounded:e}"))
                .filter(|&rounded| rounded == above)
                .count();
            assert_eq!(away, low as usize, "{value:e}");
            let mean = below + (above - below) * away as f64 / 65536.0;
            assert_eq!(mean, value);
        }
    }
}

/// The add-and-truncate that kernels do on an f32's bits is the same function of the same random bits.
#[test]
fn stochastic_rounding_is_what_an_integer_kernel_does() {
    let mut random = 0x9e37_79b9_u32;
    for bits in (0..=u32::MAX).step_by(65_521) {
        random = random.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
        let value = f32::from_bits(bits);
        if value.is_finite() {
            let noise = random >> 16;
            let kernel = f32::from_bits((bits + noise) & 0xffff_0000);
            let oracle = round_stochastic(value.into(), FloatFormat::Bf16, u64::from(noise) << 48);
            assert_eq!(f64::from(kernel).to_bits(), oracle.to_bits(), "{bits:#x} + {noise:#x}");
        }
    }
}

#[test]
fn above_the_largest_value_stochastic_rounding_may_overflow() {
    let value = FloatFormat::F16.max() + 8.0;
    assert_eq!(round_stochastic(value, FloatFormat::F16, 0), FloatFormat::F16.max());
    assert_eq!(round_stochastic(-value, FloatFormat::F16, u64::MAX), f64::NEG_INFINITY);
    assert!(round_stochastic(449.0, FloatFormat::F8E4M3, u64::MAX).is_nan());
    assert_eq!(round_stochastic(1e300, FloatFormat::Bf16, 0), f64::INFINITY);
}

#[test]
fn far_below_the_smallest_value_stochastic_rounding_keeps_the_odds() {
    // 2⁻⁶⁰ of the way to the smallest f16: the last 16 of 2⁶⁴ random words.
    let value = FloatFormat::F16.min_subnormal() * 2.0_f64.powi(-60);
    let smallest = FloatFormat::F16.min_subnormal();
    assert_eq!(round_stochastic(value, FloatFormat::F16, u64::MAX - 15), smallest);
    assert_eq!(round_stochastic(value, FloatFormat::F16, u64::MAX - 16), 0.0);
    // Nearer to zero than 2⁻⁶⁴ of the way: never.
    assert_eq!(round_stochastic(f64::MIN_POSITIVE, FloatFormat::F16, u64::MAX).to_bits(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn stochastic_rounding_takes_one_of_the_two_neighbours(value in any_f64(), random_bits: u64) {
        prop_assume!(!value.is_nan());
        for format in FloatFormat::ALL {
            let rounded = round_stochastic(value, format, random_bits);
            let magnitude = rounded.abs();
            prop_assert_eq!(rounded.is_sign_negative(), value.is_sign_negative());
            let ulp = format.ulp(value);
            if !rounded.is_finite() {
                prop_assert!(value.abs() > format.max(), "{} {:e}", format, value);
            } else {
                prop_assert_eq!(round_nearest_even(rounded, format), rounded);
                prop_assert!((magnitude - value.abs()).abs() < ulp, "{} {:e}", format, value);
            }
        }
    }
}
