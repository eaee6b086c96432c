//! Every instruction set against the table, whose f64 is rounded: two or three roundings are allowed.

use super::*;
use half::{bf16, f16};
use precision_types::{Float, ulp_distance};
use std::fmt::Display;

const FUNCTIONS: [Function; 6] = [
    Function::Gelu,
    Function::GeluTanh,
    Function::Relu,
    Function::Scale { factor: 0.3f32 as f64 },
    Function::Sigmoid,
    Function::Silu,
];

/// f32 of all sizes, dense where the functions bend.
fn arguments() -> Vec<f32> {
    let all = (0..=u16::MAX).map(|high| f32::from_bits(u32::from(high) << 16 | 0x1234));
    let dense = (-60_000..60_000).map(|i| i as f32 * 0.002_3);
    let ends = [0., -0., f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN, 1e-45, -1e-45];
    all.chain(dense).chain(ends).collect()
}

/// The function and its slope by the table.
fn exact(function: Function, x: f32) -> (f64, f64) {
    let (mut value, mut slope) = ([f64::from(x)], [1.]);
    function.values(&mut value);
    function.gradients(&[f64::from(x)], &mut slope);
    (value[0], slope[0])
}

fn sets() -> impl Iterator<Item = Isa> {
    Isa::available().filter(|&isa| takes(isa, Function::Silu))
}

#[test]
fn values_are_within_two_ulp_of_the_table_and_slopes_within_five_of_their_terms() {
    let x = arguments();
    let ones = vec![1f32; x.len()];
    for (function, isa) in FUNCTIONS.into_iter().flat_map(|function| sets().map(move |isa| (function, isa))) {
        let (mut got, mut slopes) = (vec![9f32; x.len()], vec![9f32; x.len()]);
        values(isa, function, &x, &mut got);
        gradients(isa, function, &x, Floats::F32(&ones), &mut slopes);
        for i in 0..x.len() {
            let (value, slope) = exact(function, x[i]);
            let distance = ulp_distance(got[i], value as f32);
            assert!(distance.is_some_and(|d| d <= 2), "{function:?} of {}: {}, not {value}", x[i], got[i]);
            // `|s(x)| + |x s′(x)|`, of which the first is the value over x.
            let gate = if x[i] == 0. { 0.5 } else { value / f64::from(x[i]) };
            let terms = if gate.is_finite() { gate.abs() + (slope - gate).abs() } else { slope.abs() };
            let bound = 5. * (terms * 2f64.powi(-23)).max(2f64.powi(-149));
            let off = (f64::from(slopes[i]) - slope).abs();
            let close = off <= bound || (slopes[i].is_nan() && slope.is_nan());
            assert!(close, "the slope of {function:?} at {}: {}, not {slope}", x[i], slopes[i]);
        }
    }
}

/// Holds the values of `x` to those of the table.
fn values_are_within_one_ulp<X>(isa: Isa, function: Function, x: &[X], rounded: impl Fn(f64) -> X)
where
    X: Stored<f32> + Float + Display + Into<f32>,
{
    let mut got = vec![rounded(1.); x.len()];
    values(isa, function, x, &mut got);
    for (&x, &got) in x.iter().zip(&got) {
        let value = rounded(exact(function, x.into()).0);
        assert!(
            ulp_distance(got, value).is_some_and(|d| d <= 1),
            "{function:?} of {x} by {isa:?}: {got}, not {value}"
        );
    }
}

#[test]
fn numbers_of_16_bits_are_within_one_ulp_at_every_length() {
    let bits = |i: usize| crate::random::random_bits(5, i as u64) as u16;
    for (len, isa) in (0..67).flat_map(|len| sets().map(move |isa| (len, isa))) {
        let brains: Vec<bf16> = (0..len).map(|i| bf16::from_bits(bits(i + 67 * len))).collect();
        let halves: Vec<f16> = (0..len).map(|i| f16::from_bits(bits(i + 67 * len))).collect();
        for function in FUNCTIONS {
            let (mut got, mut slopes) = (vec![bf16::ONE; len], vec![bf16::ONE; len]);
            values(isa, function, &brains, &mut got);
            gradients(isa, function, &brains, Floats::Bf16(&vec![bf16::ONE; len]), &mut slopes);
            for i in 0..len {
                let (value, slope) = exact(function, brains[i].to_f32());
                let [value, slope] = [value, slope].map(precision_types::bf16_from_f64);
                assert!(ulp_distance(got[i], value).is_some_and(|d| d <= 1), "{function:?} of {}", brains[i]);
                let near = ulp_distance(slopes[i], slope).is_some_and(|d| d <= 1)
                    || (slopes[i].to_f32() - slope.to_f32()).abs() < 1e-6;
                assert!(near, "the slope of {function:?} at {}: {}, not {slope}", brains[i], slopes[i]);
            }
            values_are_within_one_ulp(isa, function, &halves, precision_types::f16_from_f64);
        }
    }
}

#[test]
fn values_of_every_number_of_16_bits_are_within_one_ulp() {
    let brains: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
    let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
    for (function, isa) in FUNCTIONS.into_iter().flat_map(|function| sets().map(move |isa| (function, isa))) {
        values_are_within_one_ulp(isa, function, &brains, precision_types::bf16_from_f64);
        values_are_within_one_ulp(isa, function, &halves, precision_types::f16_from_f64);
    }
}
