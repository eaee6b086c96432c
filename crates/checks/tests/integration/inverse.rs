//! asin, acos, atan and erfinv, which candle lacks: how many digits they keep, and what they are at the ends.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use autocast::{Result, ops};
use candle_core::{DType, Device, Tensor};
use checks::catalogue::samples::numbers;

/// Two ULP of a rounded quotient or root, two more of the series: from the smallest arguments to the ends of the domain.
#[test]
fn inverse_functions_keep_their_digits() {
    type Op = fn(&Tensor) -> Result<Tensor>;
    type Formula = fn(f64) -> f64;
    let inside = [-1., -0.999_999, -0.71, -1e-3, -1e-200, 0., 1e-9, 0.3, 0.5, 0.95, 1. - 1e-12, 1.];
    let line = [f64::NEG_INFINITY, -1e300, -1.5, -1., -0.4, 1e-200, 1e-3, 0.99, 1.01, 30., f64::INFINITY];
    let all: [(&str, Op, Formula, &[f64]); 3] = [
        ("asin", ops::asin, f64::asin, &inside),
        ("acos", ops::acos, f64::acos, &inside),
        ("atan", ops::atan, f64::atan, &line),
    ];
    for (name, op, formula, x) in all {
        for (&x, got) in std::iter::zip(x, numbers(&op(&Tensor::new(x, &Device::Cpu).unwrap()).unwrap())) {
            let want = formula(x);
            assert!((got - want).abs() <= 4. * f64::EPSILON * want.abs(), "{name}({x}): {got}, not {want}");
        }
    }
    let beyond = Tensor::new(&[-1.1, 1.1, f64::NAN], &Device::Cpu).unwrap();
    for op in [ops::asin, ops::acos, ops::erfinv] {
        assert!(numbers(&op(&beyond).unwrap()).iter().all(|y| y.is_nan()));
    }
    assert!(numbers(&ops::atan(&beyond).unwrap())[2].is_nan());
}

#[test]
fn erfinv_undoes_erf() {
    for dtype in [DType::F32, DType::F64] {
        let unit = if dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
        let y = Tensor::new(&[-2.5, -1.1, -1e-3, 1e-20, 0.04, 0.5, 0.9, 1.7, 3.], &Device::Cpu).unwrap();
        let y = y.to_dtype(dtype).unwrap();
        let back = numbers(&ops::erfinv(&ops::erf(&y).unwrap()).unwrap());
        for (got, want) in std::iter::zip(back, numbers(&y)) {
            // An ULP of erf(y) is worth exp(y²) of y.
            let bound = 4. * unit * (want.abs() + (want * want).exp() * want.abs().min(1.));
            assert!((got - want).abs() <= bound, "{dtype:?}: {got}, not {want}");
        }
    }
    // Wichura, Algorithm AS 241: the upper quartile of the normal distribution, divided by √2.
    let half = Tensor::new(&[0.5, 1., -1., 0.], &Device::Cpu).unwrap();
    let got = numbers(&ops::erfinv(&half).unwrap());
    assert!((got[0] - 0.674_489_750_196_081_7 * std::f64::consts::FRAC_1_SQRT_2).abs() < 2e-16);
    assert_eq!(got[1..], [f64::INFINITY, f64::NEG_INFINITY, 0.]);
}
