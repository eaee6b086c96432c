//! Activations, rounded once, with PyTorch's gradient at every kink and far out.

use backends::kernels::pointwise::Function;
use candle_core::Tensor;

use super::binary::mul;
use super::elementwise::unary;
use crate::{Error, Result};

/// `x · Φ(x)` with the normal distribution's Φ.
///
/// # Errors
///
/// A dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// Hendrycks and Gimpel, 2016; `torch.nn.functional.gelu`.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    unary("gelu", Function::Gelu, x)
}

/// gelu with `tanh(√(2/π) (x + 0.044715 x³))` in place of the error function.
///
/// # Errors
///
/// A dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// `torch.nn.functional.gelu(approximate="tanh")`.
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    unary("gelu", Function::GeluTanh, x)
}

/// `max(x, 0)`, with gradient 0 at 0.
///
/// # Errors
///
/// A dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// `torch.nn.functional.relu`.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    unary("relu", Function::Relu, x)
}

/// `x / (1 + exp(−x))`.
///
/// # Errors
///
/// A dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// `torch.nn.functional.silu`.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    unary("silu", Function::Silu, x)
}

/// `1 / (1 + exp(−x))`.
///
/// # Errors
///
/// A dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// `torch.nn.functional.sigmoid`.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    unary("sigmoid", Function::Sigmoid, x)
}

/// The hyperbolic tangent.
///
/// # Errors
///
/// A dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// `torch.nn.functional.tanh`.
pub fn tanh(x: &Tensor) -> Result<Tensor> {
    unary("tanh", Function::Tanh, x)
}

/// `log(1 + exp(x))`, which does not overflow.
///
/// # Errors
///
/// A dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// `torch.nn.functional.softplus`.
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    unary("softplus", Function::Softplus, x)
}

/// `x` where positive, `alpha · (exp(x) − 1)` elsewhere.
///
/// # Errors
///
/// A dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// `torch.nn.functional.elu`.
pub fn elu(x: &Tensor, alpha: f64) -> Result<Tensor> {
    unary("elu", Function::Elu { alpha }, x)
}

/// `x` where positive, `negative_slope · x` elsewhere, also for the gradient at 0.
///
/// # Errors
///
/// A dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// `torch.nn.functional.leaky_relu`.
pub fn leaky_relu(x: &Tensor, negative_slope: f64) -> Result<Tensor> {
    unary("leaky_relu", Function::LeakyRelu { slope: negative_slope }, x)
}

/// `x` kept within `low..=high`, with gradient 0 at and beyond the ends.
///
/// # Errors
///
/// `low` above `high`, a dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// `torch.nn.functional.hardtanh`; [`clamp`](crate::ops::clamp) is the same with gradient 1 at the ends.
pub fn hardtanh(x: &Tensor, low: f64, high: f64) -> Result<Tensor> {
    if low.is_nan() || high.is_nan() || low > high {
        return Err(Error::argument("hardtanh", "low", low, format!("at most high = {high}")));
    }
    unary("hardtanh", Function::Hardtanh { low, high }, x)
}

/// `min(max(x + 3, 0), 6) / 6`.
///
/// # Errors
///
/// A dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// `torch.nn.functional.hardsigmoid`.
pub fn hardsigmoid(x: &Tensor) -> Result<Tensor> {
    unary("hardsigmoid", Function::Hardsigmoid, x)
}

/// `x · hardsigmoid(x)`.
///
/// # Errors
///
/// A dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// `torch.nn.functional.hardswish`.
pub fn hardswish(x: &Tensor) -> Result<Tensor> {
    unary("hardswish", Function::Hardswish, x)
}

/// `x · tanh(softplus(x))`.
///
/// # Errors
///
/// A dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// Misra, 2019; `torch.nn.functional.mish`.
pub fn mish(x: &Tensor) -> Result<Tensor> {
    unary("mish", Function::Mish, x)
}

/// `silu(a) · b`, where `a` and `b` are the halves of the last dimension of `x`.
///
/// # Errors
///
/// A last dimension that has no halves, a dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// Shazeer, GLU Variants Improve Transformer, 2020.
pub fn swiglu(x: &Tensor) -> Result<Tensor> {
    match x.dims() {
        [.., last] if last % 2 == 0 => {
            let (last, half) = (x.rank() - 1, last / 2);
            mul(&silu(&x.narrow(last, 0, half)?)?, &x.narrow(last, half, half)?)
        }
        dims => Err(Error::shape("swiglu", "x", dims, "a last dimension of even length")),
    }
}
