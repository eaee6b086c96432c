//! Reductions: gradients, agreement of the dtypes, ties, and what is empty.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use autocast::{Result, ops};
use candle_core::{DType, Device, Tensor, Var};
use checks::catalogue::samples::numbers;
use checks::catalogue::{cases_reductions, check::check_all};
use proptest::prelude::*;

#[test]
fn gradients_and_dtypes_agree() {
    check_all(cases_reductions::CASES, &Device::Cpu);
}

/// The gradient of the sum of `f(x)`.
fn gradient(x: &[f32], f: impl Fn(&Tensor) -> Result<Tensor>) -> Vec<f64> {
    let x = Var::new(x, &Device::Cpu).unwrap();
    let grads = autocast::backward(f(&x).unwrap().sum_all().unwrap()).unwrap();
    numbers(grads.get(&x).unwrap())
}

#[test]
fn the_gradient_of_a_standard_deviation_of_0_is_0() {
    assert_eq!(gradient(&[2., 2., 2.], |x| ops::std(x, 0, 1)), [0., 0., 0.]);
    let x = Tensor::new(&[1f64, 2., 4., 5.], &Device::Cpu).unwrap();
    assert!((numbers(&ops::std(&x, 0, 1).unwrap())[0] - (10f64 / 3.).sqrt()).abs() < 1e-15);
    assert_eq!(numbers(&ops::std(&x, 0, 0).unwrap()), [2.5f64.sqrt()]);
}

#[test]
fn cumprod_multiplies_up_to_each_element() {
    let x = Tensor::new(&[2f64, -3., 0., 5.], &Device::Cpu).unwrap();
    assert_eq!(numbers(&ops::cumprod(&x, 0).unwrap()), [2., -6., 0., 0.]);
    // d/dx of x₀ + x₀x₁ + x₀x₁x₂ + x₀x₁x₂x₃.
    assert_eq!(gradient(&[2., -3., 0., 5.], |x| ops::cumprod(x, 0)), [-2., 2., -36., 0.]);
    let empty = Tensor::zeros((2, 0), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(ops::cumprod(&empty, 1).unwrap().dims(), [2, 0]);
}

#[test]
fn a_tie_of_max_goes_to_one_and_of_amax_to_all() {
    let x = [1., 3., 3., 0.];
    assert_eq!(gradient(&x, |x| Ok(ops::max(x, 0)?.0)), [0., 1., 0., 0.]);
    assert_eq!(gradient(&x, |x| ops::amax(x, 0)), [0., 0.5, 0.5, 0.]);
    assert_eq!(gradient(&[2., 2.], |x| Ok(ops::min(x, 0)?.0)), [1., 0.]);
    assert_eq!(gradient(&[2., 2.], |x| ops::amin(x, 0)), [0.5, 0.5]);
}

#[test]
fn the_norm_of_zeros_has_gradient_zero() {
    assert_eq!(gradient(&[0., 0.], |x| ops::norm(x, 0)), [0., 0.]);
}

#[test]
fn extrema_hand_on_nan() {
    let x = Tensor::new(&[[1f32, f32::NAN, 7.], [1., 2., 3.]], &Device::Cpu).unwrap();
    assert!(numbers(&ops::amax(&x, 1).unwrap())[0].is_nan());
    assert!(numbers(&ops::amin(&x, 1).unwrap())[0].is_nan());
    let (values, indices) = ops::max(&x, 1).unwrap();
    assert!(numbers(&values)[0].is_nan());
    assert_eq!(indices.to_vec1::<u32>().unwrap(), [1, 2]);
}

#[test]
fn nothing_has_a_sum_a_product_and_no_maximum() {
    let x = Var::zeros((2, 0), DType::F16, &Device::Cpu).unwrap();
    assert_eq!(numbers(&ops::sum(&x, 1).unwrap()), [0., 0.]);
    assert_eq!(numbers(&ops::prod(&x, 1).unwrap()), [1., 1.]);
    assert_eq!(numbers(&ops::logsumexp(&x, 1).unwrap()), [f64::NEG_INFINITY; 2]);
    assert!(numbers(&ops::mean(&x, 1).unwrap()).iter().all(|m| m.is_nan()));
    assert!(ops::var(&x, 1, 1).is_ok_and(|v| numbers(&v).iter().all(|m| m.is_nan())));
    let message = ops::amax(&x, 1).unwrap_err().to_string();
    assert!(message.contains("amax") && message.contains("[2, 0]"), "{message}");
    assert!(ops::max(&x, 1).is_err());
}

#[test]
fn a_dimension_that_is_not_there_is_an_error() {
    let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
    assert!(ops::sum(&x, 2).is_err());
    assert!(ops::prod(&x, 5).is_err());
    assert!(ops::mean(&x.to_dtype(DType::U32).unwrap(), 0).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    /// Sums of 16-bit numbers equal the f64 sums of the same numbers, rounded once, whatever shape and layout they
    /// come in.
    #[test]
    fn sums_round_once(
        dims in prop::collection::vec(0usize..5, 1..4),
        dim in 0usize..3,
        transposed: bool,
        seed: u64,
    ) {
        let dim = dim % dims.len();
        let mut x = checks::catalogue::Samples::new(seed, &Device::Cpu).uniform(&dims, -100., 100.);
        if transposed {
            x = x.transpose(0, dims.len() - 1).unwrap();
        }
        for dtype in [DType::F16, DType::BF16] {
            let narrow = x.to_dtype(dtype).unwrap();
            let want = narrow.to_dtype(DType::F64).unwrap().contiguous().unwrap();
            let got = ops::sum(&narrow, dim).unwrap();
            prop_assert_eq!(got.dtype(), dtype);
            let want = ops::sum(&want, dim).unwrap().to_dtype(DType::F32).unwrap().to_dtype(dtype).unwrap();
            prop_assert_eq!(numbers(&got), numbers(&want));
        }
    }
}
