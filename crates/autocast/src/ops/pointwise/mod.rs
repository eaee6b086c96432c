//! Ops of single elements, and of pairs that broadcast. `elementwise` is what has a kernel; the rest is composed.

mod activation;
mod arithmetic;
pub(crate) mod bias;
mod binary;
mod elementwise;
mod functions;
mod prelu;
mod whole;

pub use activation::{
    elu, gelu, gelu_tanh, hardsigmoid, hardswish, hardtanh, leaky_relu, mish, relu, sigmoid, silu, softplus,
    swiglu, tanh,
};
pub use arithmetic::{add, add_scalar, div_scalar, mul_scalar, sub};
pub use binary::{div, mul};
pub use functions::{
    abs, acos, asin, atan, clamp, cos, cosh, erf, erfinv, exp, expm1, log, log1p, log2, log10, maximum,
    minimum, neg, pow, powf, reciprocal, rsqrt, sin, sinh, sqrt, square, tan,
};
pub use prelu::prelu;
