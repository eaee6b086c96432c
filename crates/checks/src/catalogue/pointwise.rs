//! The pointwise functions and how far off each may be.

use autocast::{Result, ops};
use candle_core::Tensor;

/// A function of one tensor.
pub type Op = fn(&Tensor) -> Result<Tensor>;

/// Name, op, and how many ULPs value and gradient may be off in f64.
pub const FUNCTIONS: &[(&str, Op, u64, u64)] = &[
    ("exp", ops::exp, 1, 1),
    ("expm1", ops::expm1, 1, 1),
    ("log", ops::log, 1, 1),
    ("log2", ops::log2, 1, 2),
    ("log10", ops::log10, 2, 2),
    ("log1p", ops::log1p, 1, 1),
    ("sin", ops::sin, 1, 1),
    ("cos", ops::cos, 1, 1),
    ("tan", ops::tan, 1, 3),
    ("asin", ops::asin, 1, 3),
    ("acos", ops::acos, 1, 3),
    ("atan", ops::atan, 1, 2),
    ("sinh", ops::sinh, 2, 2),
    ("cosh", ops::cosh, 2, 2),
    ("tanh", ops::tanh, 2, 6),
    ("erf", ops::erf, 1, 2),
    ("erfinv", ops::erfinv, 4, 8),
    ("sqrt", ops::sqrt, 0, 1),
    ("rsqrt", ops::rsqrt, 1, 2),
    ("reciprocal", ops::reciprocal, 0, 1),
    ("square", ops::square, 0, 0),
    ("sigmoid", ops::sigmoid, 2, 4),
    ("softplus", ops::softplus, 2, 2),
    ("silu", ops::silu, 4, 5),
    ("gelu", ops::gelu, 3, 4),
    ("gelu_tanh", ops::gelu_tanh, 4, 6),
    ("mish", ops::mish, 4, 6),
    ("elu", |x| ops::elu(x, 1.), 1, 1),
];

/// 200,000 f32 of every size and both signs: all whose bits are multiples of an odd step.
pub fn sweep() -> Vec<f32> {
    (0..=u32::MAX).step_by(21_473).map(f32::from_bits).collect()
}
