//! Activations, functions of single elements, and joining.

use autocast::ops;

use super::{OpCase, Samples};
use candle_core::Tensor;

fn plain(s: &mut Samples) -> Vec<Tensor> {
    vec![s.uniform(&[2, 5], -3., 3.)]
}

fn off_zero(s: &mut Samples) -> Vec<Tensor> {
    vec![s.away_from(&[2, 5], &[0.])]
}

fn below_1(s: &mut Samples) -> Vec<Tensor> {
    vec![s.uniform(&[2, 5], -0.9, 0.9)]
}

fn positive(s: &mut Samples) -> Vec<Tensor> {
    vec![s.uniform(&[2, 5], 0.3, 3.)]
}

fn pair(s: &mut Samples) -> Vec<Tensor> {
    let both = s.distinct(&[2, 3, 4]);
    vec![both.get(0).unwrap(), both.get(1).unwrap()]
}

/// Functions and activations.
pub const CASES: &[OpCase] = &[
    OpCase::new("gelu", plain, |x| ops::gelu(&x[0])),
    OpCase::new("gelu tanh", plain, |x| ops::gelu_tanh(&x[0])),
    OpCase::new("relu", off_zero, |x| ops::relu(&x[0])),
    OpCase::new("silu", plain, |x| ops::silu(&x[0])),
    OpCase::new("sigmoid", plain, |x| ops::sigmoid(&x[0])),
    OpCase::new("tanh", plain, |x| ops::tanh(&x[0])),
    OpCase::new("softplus", plain, |x| ops::softplus(&x[0])),
    OpCase::new("elu", off_zero, |x| ops::elu(&x[0], 0.7)),
    OpCase::new("leaky_relu", off_zero, |x| ops::leaky_relu(&x[0], 0.1)),
    OpCase::new("hardtanh", |s| vec![s.away_from(&[8], &[-1., 1.])], |x| ops::hardtanh(&x[0], -1., 1.)),
    OpCase::new("hardsigmoid", plain, |x| ops::hardsigmoid(&x[0])),
    OpCase::new("hardswish", plain, |x| ops::hardswish(&x[0])),
    OpCase::new("mish", plain, |x| ops::mish(&x[0])),
    OpCase::new("swiglu", |s| vec![s.uniform(&[3, 6], -3., 3.)], |x| ops::swiglu(&x[0])).rounding(2),
    OpCase::new("exp", plain, |x| ops::exp(&x[0])),
    OpCase::new("expm1", plain, |x| ops::expm1(&x[0])),
    OpCase::new("log", positive, |x| ops::log(&x[0])),
    OpCase::new("log2", positive, |x| ops::log2(&x[0])),
    OpCase::new("log10", positive, |x| ops::log10(&x[0])),
    OpCase::new("log1p", positive, |x| ops::log1p(&x[0])),
    OpCase::new("sqrt", positive, |x| ops::sqrt(&x[0])),
    OpCase::new("rsqrt", positive, |x| ops::rsqrt(&x[0])),
    OpCase::new("reciprocal", off_zero, |x| ops::reciprocal(&ops::add_scalar(&x[0], 5.)?)).rounding(2),
    OpCase::new("square", plain, |x| ops::square(&x[0])),
    OpCase::new("abs", off_zero, |x| ops::abs(&x[0])),
    OpCase::new("neg", plain, |x| ops::neg(&x[0])),
    OpCase::new("sin", plain, |x| ops::sin(&x[0])),
    OpCase::new("cos", plain, |x| ops::cos(&x[0])),
    OpCase::new("tan", |s| vec![s.uniform(&[8], -1.2, 1.2)], |x| ops::tan(&x[0])),
    OpCase::new("asin", below_1, |x| ops::asin(&x[0])),
    OpCase::new("acos", below_1, |x| ops::acos(&x[0])),
    OpCase::new("atan", plain, |x| ops::atan(&x[0])),
    OpCase::new("sinh", plain, |x| ops::sinh(&x[0])),
    OpCase::new("cosh", plain, |x| ops::cosh(&x[0])),
    OpCase::new("erf", plain, |x| ops::erf(&x[0])),
    OpCase::new("erfinv", below_1, |x| ops::erfinv(&x[0])),
    OpCase::new("pow 3", plain, |x| ops::powf(&x[0], 3.)),
    OpCase::new("pow 2", plain, |x| ops::powf(&x[0], 2.)),
    OpCase::new("pow -1.5", positive, |x| ops::powf(&x[0], -1.5)),
    OpCase::new(
        "pow of tensors",
        |s| vec![s.uniform(&[3, 4], 0.3, 2.), s.uniform(&[4], -2., 2.)],
        |x| ops::pow(&x[0], &x[1]),
    ),
    OpCase::new(
        "pow of negatives",
        |s| vec![s.uniform(&[3], -2., -0.5)],
        |x| {
            let exponent = Tensor::new(&[2., 3., -1.], x[0].device())?.to_dtype(x[0].dtype())?;
            ops::pow(&x[0], &exponent)
        },
    ),
    OpCase::new("clamp", |s| vec![s.away_from(&[8], &[-1., 0.5])], |x| ops::clamp(&x[0], -1., 0.5)),
    OpCase::new("maximum", pair, |x| ops::maximum(&x[0], &x[1])),
    OpCase::new("minimum", pair, |x| ops::minimum(&x[0], &x[1])),
    OpCase::new("dropout", plain, |x| ops::dropout(&x[0], 0.4, 7)),
    OpCase::new(
        "cat",
        |s| vec![s.uniform(&[2, 3], -2., 2.), s.uniform(&[2, 1], -2., 2.)],
        |x| ops::cat(&[&x[0], &x[1]], 1),
    ),
    OpCase::new(
        "stack",
        |s| vec![s.uniform(&[2, 3], -2., 2.), s.uniform(&[2, 3], -2., 2.)],
        |x| ops::stack(&[&x[0], &x[1]], 2),
    ),
    OpCase::new(
        "where",
        |s| vec![s.indices(&[3, 4], 2), s.uniform(&[4], -2., 2.), s.uniform(&[3, 1], -2., 2.)],
        |x| ops::where_cond(&x[0], &x[1], &x[2]),
    ),
];
