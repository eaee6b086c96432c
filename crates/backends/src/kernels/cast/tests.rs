//! Against the oracle: around every 16-bit value and every tie, and on raw bits.

use super::*;
use proptest::prelude::*;

fn agree(src: &[f64]) {
    let (mut half, mut brain) = (vec![f16::ZERO; src.len()], vec![bf16::ZERO; src.len()]);
    cast_f64_f16(src, &mut half).unwrap();
    cast_f64_bf16(src, &mut brain).unwrap();
    for (i, want) in cast_f64_f16_scalar(src).into_iter().enumerate() {
        let same = half[i].to_bits() == want.to_bits() || (half[i].is_nan() && want.is_nan());
        assert!(same, "{:e} became {}, not {want}", src[i], half[i]);
    }
    for (i, want) in cast_f64_bf16_scalar(src).into_iter().enumerate() {
        let same = brain[i].to_bits() == want.to_bits() || (brain[i].is_nan() && want.is_nan());
        assert!(same, "{:e} became {}, not {want}", src[i], brain[i]);
    }
}

/// The value, the midpoint after it, and what is a hair beside either.
fn around(value: f64, next: f64) -> [f64; 8] {
    let middle = value + (next - value) / 2.0;
    let hair = |x: f64| [x, x.next_up(), x.next_down(), x + (next - value) * 2f64.powi(-25)];
    let [a, b, c, d] = hair(value);
    let [e, f, g, h] = hair(middle);
    [a, b, c, d, e, f, g, h]
}

#[test]
fn every_value_and_every_tie_is_rounded_once() {
    let mut cases = Vec::new();
    for bits in 0..u16::MAX {
        cases.extend(around(f16::from_bits(bits).to_f64(), f16::from_bits(bits + 1).to_f64()));
        cases.extend(around(bf16::from_bits(bits).to_f64(), bf16::from_bits(bits + 1).to_f64()));
    }
    agree(&cases);
}

#[test]
fn what_lies_outside_of_both_ranges_and_every_short_length() {
    let odd = [
        0.0,
        -0.0,
        1e-320,
        -5e-324,
        f64::MIN_POSITIVE,
        1e300,
        f64::MAX,
        -f64::MAX,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        f64::from_bits(0xfff0_0000_0000_0001),
        f64::from(f32::MAX).next_up(),
        65_519.999_999_999,
        65520.0,
    ];
    for len in 0..=67 {
        agree(&odd.iter().cycle().copied().take(len).collect::<Vec<_>>());
    }
}

#[test]
fn threads_meet_inside_a_buffer_and_lengths_must_fit() {
    let many: Vec<f64> = (0..3 * CHUNK + 5).map(|i| 1.0 + i as f64 * 2f64.powi(-40)).collect();
    agree(&many);
    let error = cast_f64_f16(&many, &mut [f16::ZERO; 3]).unwrap_err();
    assert!(matches!(error, Error::LengthMismatch { op: "cast_f64_f16", got: 3, .. }), "{error}");
}

proptest! {
    #[test]
    fn raw_bits_agree(bits in proptest::collection::vec(any::<u64>(), 1..200), exponents in proptest::collection::vec(880u64..1160, 200)) {
        // Raw bits, and the same with an exponent in or near the range of the 16-bit formats.
        let raw: Vec<f64> = bits.iter().map(|&b| f64::from_bits(b)).collect();
        let near = |(&b, &e): (&u64, &u64)| f64::from_bits(b & !(0x7ff << 52) | e << 52);
        agree(&raw);
        agree(&bits.iter().zip(&exponents).map(near).collect::<Vec<_>>());
    }
}
