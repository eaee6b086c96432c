//! Rounding to nearest and ULPs, held to oracles that share no code with them: a search among all the values of a 16-bit
//! or 8-bit format, and Rust's own casts for f32 and f64.

use crate::oracle::{SMALL, all_bits, any_f64, magnitudes, meaning};
use half::{bf16, f16};
use precision_types::{
    FloatFormat, bf16_from_f64, f16_from_f64, round_nearest_even, round_stochastic, ulp_distance,
};
use proptest::prelude::*;

/// The bits of the value nearest to `value`, by search. `values` are the format's magnitudes.
fn nearest_by_search(format: FloatFormat, values: &[f64], value: f64) -> u64 {
    let magnitude = value.abs();
    let last = values.len() - 1;
    // One more step of the last binade: where infinity begins as far as rounding is concerned.
    let beyond = values[last] + (values[last] - values[last - 1]);
    let above = values.partition_point(|&v| v < magnitude);
    let upper = values.get(above).copied().unwrap_or(beyond);
    let ordinal = if upper == magnitude || magnitude >= beyond {
        above
    } else {
        // Exact: neighbouring magnitudes and an f64 between them are within a factor of two, or the gap is at zero.
        let (below, rest) = (magnitude - values[above - 1], upper - magnitude);
        match below.total_cmp(&rest) {
            std::cmp::Ordering::Less => above - 1,
            std::cmp::Ordering::Greater => above,
            std::cmp::Ordering::Equal => above - 1 + (above - 1) % 2,
        }
    };
    let sign = u64::from(value.is_sign_negative()) << (format.bits() - 1);
    sign | ordinal as u64
}

#[test]
fn every_bit_pattern_means_what_the_oracle_says() {
    for format in SMALL {
        for bits in all_bits(format) {
            let (actual, expected) = (format.from_bits(bits), meaning(format, bits));
            assert_eq!(actual.is_nan(), expected.is_nan(), "{format} {bits:#x}");
            if !expected.is_nan() {
                assert_eq!(actual.to_bits(), expected.to_bits(), "{format} {bits:#x}");
            }
        }
    }
}

#[test]
fn every_value_is_unchanged_by_rounding() {
    for format in SMALL {
        for bits in all_bits(format) {
            let value = meaning(format, bits);
            if value.is_nan() {
                assert!(format.from_bits(format.to_bits(value)).is_nan(), "{format} {bits:#x}");
                assert!(round_stochastic(value, format, u64::MAX).is_nan(), "{format} {bits:#x}");
                continue;
            }
            assert_eq!(format.to_bits(value), bits, "{format}");
            assert_eq!(round_nearest_even(value, format).to_bits(), value.to_bits(), "{format} {bits:#x}");
            for random_bits in [0, 1, 1 << 63, u64::MAX] {
                let rounded = round_stochastic(value, format, random_bits);
                assert_eq!(rounded.to_bits(), value.to_bits(), "{format} {bits:#x}");
            }
        }
    }
}

/// In every gap of every small format: the tie, and the f64s on either side of the tie and of both ends.
#[test]
fn every_gap_is_rounded_to_its_nearer_end_and_ties_to_even() {
    for format in SMALL {
        let values = magnitudes(format);
        for (bits, pair) in values.windows(2).enumerate() {
            let [below, above] = [pair[0], pair[1]];
            let tie = below + (above - below) / 2.0;
            let bits = bits as u64;
            let expected = [
                (below.next_up(), bits),
                (tie.next_down(), bits),
                (tie, bits + bits % 2),
                (tie.next_up(), bits + 1),
                (above.next_down(), bits + 1),
            ];
            let sign = 1 << (format.bits() - 1);
            for (value, nearest) in expected {
                assert_eq!(format.to_bits(value), nearest, "{format}: {value:e}");
                assert_eq!(format.to_bits(-value), sign | nearest, "{format}: -{value:e}");
                assert_eq!(nearest_by_search(format, &values, value), nearest, "the oracle on {value:e}");
            }
        }
    }
}

#[test]
fn overflow_begins_half_a_step_above_the_largest_value() {
    for format in [FloatFormat::F8E5M2, FloatFormat::F16, FloatFormat::Bf16, FloatFormat::F32] {
        let edge = format.max() + format.ulp(format.max()) / 2.0;
        assert_eq!(round_nearest_even(edge.next_down(), format), format.max());
        for value in [edge, 2.0 * format.max(), f64::MAX, f64::INFINITY] {
            assert_eq!(round_nearest_even(value, format), f64::INFINITY, "{format}: {value:e}");
            assert_eq!(round_nearest_even(-value, format), f64::NEG_INFINITY, "{format}: -{value:e}");
        }
    }
    let e4m3 = FloatFormat::F8E4M3;
    assert_eq!(round_nearest_even(464.0, e4m3), 448.0);
    for value in [464.0_f64.next_up(), 480.0, 512.0, f64::MAX, f64::INFINITY] {
        assert_eq!((e4m3.to_bits(value), e4m3.to_bits(-value)), (0x7f, 0xff), "{value:e}");
    }
}

#[test]
fn what_half_gets_wrong_is_right() {
    let just_above_tie = 1.0 + 2.0_f64.powi(-11) + 2.0_f64.powi(-40);
    assert_eq!(f16_from_f64(just_above_tie).to_bits(), 0x3c01);
    let just_above_tie = 1.0 + 2.0_f64.powi(-8) + 2.0_f64.powi(-40);
    assert_eq!(bf16_from_f64(just_above_tie).to_bits(), 0x3f81);
}

#[test]
fn nan_keeps_its_sign_and_loses_its_payload() {
    for format in FloatFormat::ALL {
        let sign = 1 << (format.bits() - 1);
        let nan = format.to_bits(f64::from_bits(0x7ff0_0000_0000_0001));
        assert!(format.from_bits(nan).is_nan() && nan < sign, "{format} {nan:#x}");
        assert_eq!(format.to_bits(f64::from_bits(0xfff8_0000_dead_beef)), sign | nan, "{format}");
    }
    assert_eq!(FloatFormat::F16.to_bits(f64::NAN.abs()), 0x7e00);
    assert_eq!(FloatFormat::F32.to_bits(f64::NAN.abs()), 0x7fc0_0000);
}

/// Walks each 16-bit format from its least to its greatest value: each step is 1, and steps add up.
#[test]
fn ulp_distance_counts_the_steps_of_every_16_bit_value() {
    for format in [FloatFormat::F16, FloatFormat::Bf16] {
        let sign = 1 << 15;
        let count = magnitudes(format).len() as u64;
        let negative = (1..count).rev().map(|bits| sign | bits);
        let walk: Vec<u64> = negative.chain(0..count).collect();
        for (steps, &bits) in walk.iter().enumerate() {
            assert_eq!(format.ulp_distance(walk[0], bits), Some(steps as u64), "{format} {bits:#x}");
            assert_eq!(format.ulp_distance(bits, walk[0]), Some(steps as u64), "{format} {bits:#x}");
        }
        for pair in walk.windows(2) {
            assert!(meaning(format, pair[0]) < meaning(format, pair[1]));
            assert_eq!(format.ulp_distance(pair[0], pair[1]), Some(1), "{format} {pair:x?}");
        }
    }
}

#[test]
fn ulp_is_the_gap_above_every_value() {
    for format in SMALL {
        for pair in magnitudes(format).windows(2) {
            assert_eq!(format.ulp(pair[0]), pair[1] - pair[0], "{format}: {:e}", pair[0]);
            assert_eq!(format.ulp(-pair[0]), pair[1] - pair[0], "{format}: -{:e}", pair[0]);
        }
        assert_eq!(format.ulp(f64::MAX), format.ulp(format.max()), "{format}");
        assert!(format.ulp(f64::INFINITY).is_nan() && format.ulp(f64::NAN).is_nan());
    }
    assert_eq!(FloatFormat::F64.ulp(f64::MIN_POSITIVE / 4.0), f64::from_bits(1));
}

#[test]
fn nearest_agrees_with_a_search_among_all_values() {
    let values = SMALL.map(|format| (format, magnitudes(format)));
    proptest!(ProptestConfig::with_cases(20_000), |(value in any_f64())| {
        prop_assume!(!value.is_nan());
        for (format, values) in &values {
            prop_assert_eq!(format.to_bits(value), nearest_by_search(*format, values, value), "{}", format);
        }
    });
}

/// From f32, `half` rounds correctly, so the crate has no conversion of its own: this is what that rests on.
#[test]
fn half_rounds_f32_correctly() {
    for bits in (0..=u32::MAX).step_by(65_521) {
        let value = f32::from_bits(bits);
        if !value.is_nan() {
            assert_eq!(f16::from_f32(value), f16_from_f64(value.into()), "{bits:#x}");
            assert_eq!(bf16::from_f32(value), bf16_from_f64(value.into()), "{bits:#x}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn f32_and_f64_agree_with_rusts_casts(value in any_f64()) {
        prop_assume!(!value.is_nan());
        prop_assert_eq!(FloatFormat::F32.to_bits(value), u64::from((value as f32).to_bits()));
        prop_assert_eq!(FloatFormat::F64.to_bits(value), value.to_bits());
        prop_assert_eq!(FloatFormat::F64.from_bits(value.to_bits()), value);
    }

    #[test]
    fn nearest_is_within_half_an_ulp(value in any_f64()) {
        for format in FloatFormat::ALL {
            let rounded = round_nearest_even(value, format);
            if rounded.is_finite() {
                prop_assert!((rounded - value).abs() <= format.ulp(value) / 2.0, "{} {:e}", format, value);
            }
        }
    }

    #[test]
    fn ulp_distance_is_symmetric_and_adds_up(a: u32, b: u32, c: u32) {
        let mut values = [a, b, c].map(f32::from_bits);
        prop_assume!(values.iter().all(|v| v.is_finite()));
        values.sort_by(f32::total_cmp);
        let [a, b, c] = values;
        prop_assert_eq!(ulp_distance(a, c), ulp_distance(c, a));
        let steps = |x, y| ulp_distance(x, y).unwrap();
        prop_assert_eq!(steps(a, b) + steps(b, c), steps(a, c));
    }
}
