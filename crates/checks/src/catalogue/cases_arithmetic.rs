//! Arithmetic with broadcasting.

use autocast::ops;

use super::OpCase;

/// Sums, differences, products and quotients, with broadcasting.
pub const CASES: &[OpCase] = &[
    OpCase::new(
        "add",
        |s| vec![s.uniform(&[3, 4], -2., 2.), s.uniform(&[3, 4], -2., 2.)],
        |x| ops::add(&x[0], &x[1]),
    ),
    OpCase::new(
        "add bias",
        |s| vec![s.uniform(&[2, 3, 4], -2., 2.), s.uniform(&[4], -2., 2.)],
        |x| ops::add(&x[0], &x[1]),
    ),
    OpCase::new(
        "add both ways",
        |s| vec![s.uniform(&[3, 1], -2., 2.), s.uniform(&[2, 1, 4], -2., 2.)],
        |x| ops::add(&x[0], &x[1]),
    ),
    OpCase::new(
        "sub",
        |s| vec![s.uniform(&[4], -2., 2.), s.uniform(&[3, 4], -2., 2.)],
        |x| ops::sub(&x[0], &x[1]),
    ),
    OpCase::new(
        "mul",
        |s| vec![s.uniform(&[2, 3, 1], -2., 2.), s.uniform(&[3, 4], -2., 2.)],
        |x| ops::mul(&x[0], &x[1]),
    ),
    OpCase::new(
        "div",
        |s| vec![s.uniform(&[3, 4], -2., 2.), s.uniform(&[3, 4], 0.5, 2.)],
        |x| ops::div(&x[0], &x[1]),
    ),
    OpCase::new(
        "div broadcast",
        |s| vec![s.uniform(&[3, 4], -2., 2.), s.uniform(&[4], -2., -0.5)],
        |x| ops::div(&x[0], &x[1]),
    ),
    OpCase::new("add scalar", |s| vec![s.uniform(&[5], -2., 2.)], |x| ops::add_scalar(&x[0], 0.3)),
    OpCase::new("mul scalar", |s| vec![s.uniform(&[5], -2., 2.)], |x| ops::mul_scalar(&x[0], -3.7)),
    OpCase::new("mul by zero", |s| vec![s.uniform(&[5], -2., 2.)], |x| ops::mul_scalar(&x[0], 0.)),
    OpCase::new("div scalar", |s| vec![s.uniform(&[5], -2., 2.)], |x| ops::div_scalar(&x[0], 3.)),
];
