//! Activations: computed in f32 (f64 for f64) and rounded once, with PyTorch's gradient at every kink and far out.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use candle_core::Tensor;

use super::arithmetic::mul;
use super::elementwise::{unary, unary_by_value};
use super::log_exp;
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
    unary("gelu", x, Tensor::gelu_erf, |g, x| {
        let cdf = (((x * FRAC_1_SQRT_2)?.erf()? + 1.)? * 0.5)?;
        let density = ((x.sqr()? * -0.5)?.exp()? * (FRAC_1_SQRT_2 * 0.5 * FRAC_2_SQRT_PI))?;
        g * (cdf + x.mul(&density)?)?
    })
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
    // (1 + tanh(u)) / 2 = 1 / (1 + exp(−2u)): the exponential is several times as fast as the tangent on a CPU, and
    // nothing cancels where u is negative.
    const CUBIC: f64 = 0.044715;
    const SCALE: f64 = FRAC_1_SQRT_2 * FRAC_2_SQRT_PI;
    let denominator = |x: &Tensor| (x.sqr()?.affine(-2. * SCALE * CUBIC, -2. * SCALE)? * x)?.exp()? + 1.;
    unary(
        "gelu",
        x,
        move |x| x / denominator(x)?,
        move |g, x| {
            let gate = denominator(x)?.recip()?;
            // In this order: far out the first product is 0, and no later factor may be infinite before they meet.
            let slope = ((gate.affine(-1., 1.)? * &gate)? * x)?;
            let slope = (slope * x.sqr()?.affine(6. * SCALE * CUBIC, 2. * SCALE)?)?;
            g * (slope + gate)?
        },
    )
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
    unary_by_value("relu", x, log_exp::positive_part, |g, y| y.le(0.)?.where_cond(&g.zeros_like()?, g))
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
    unary("silu", x, Tensor::silu, |g, x| {
        let s = log_exp::sigmoid(x)?;
        g * ((s.affine(-1., 1.)? * x)?.affine(1., 1.)? * s)?
    })
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
    unary_by_value("sigmoid", x, log_exp::sigmoid, |g, y| (g * y)? * y.affine(-1., 1.)?)
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
    unary_by_value("tanh", x, Tensor::tanh, |g, y| g * y.sqr()?.affine(-1., 1.)?)
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
    unary("softplus", x, log_exp::softplus, |g, x| g * log_exp::sigmoid(x)?)
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
    unary(
        "elu",
        x,
        move |x| x.gt(0.)?.where_cond(x, &(log_exp::expm1(x)? * alpha)?),
        move |g, x| x.gt(0.)?.where_cond(g, &(g * (x.exp()? * alpha)?)?),
    )
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
    unary(
        "leaky_relu",
        x,
        move |x| x.gt(0.)?.where_cond(x, &(x * negative_slope)?),
        move |g, x| x.gt(0.)?.where_cond(g, &(g * negative_slope)?),
    )
}

/// `x` kept within `low..=high`, with gradient 0 at and beyond the ends.
///
/// # Errors
///
/// `low` above `high`, a dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// `torch.nn.functional.hardtanh`; [`clamp`](super::clamp) is the same with gradient 1 at the ends.
pub fn hardtanh(x: &Tensor, low: f64, high: f64) -> Result<Tensor> {
    if low.is_nan() || high.is_nan() || low > high {
        return Err(Error::argument("hardtanh", "low", low, format!("at most high = {high}")));
    }
    unary(
        "hardtanh",
        x,
        move |x| {
            let floor = x.le(low)?.where_cond(&filled(x, low)?, x)?;
            x.ge(high)?.where_cond(&filled(x, high)?, &floor)
        },
        move |g, x| (x.le(low)? + x.ge(high)?)?.where_cond(&g.zeros_like()?, g),
    )
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
    let inside = |x: &Tensor| x.gt(-3.)? * x.lt(3.)?;
    unary(
        "hardsigmoid",
        x,
        move |x| {
            let middle = x.affine(1. / 6., 0.5)?;
            let low = x.le(-3.)?.where_cond(&x.zeros_like()?, &middle)?;
            x.ge(3.)?.where_cond(&x.ones_like()?, &low)
        },
        move |g, x| inside(x)?.where_cond(&(g / 6.)?, &g.zeros_like()?),
    )
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
    unary(
        "hardswish",
        x,
        |x| {
            let middle = (x.affine(1. / 6., 0.5)? * x)?;
            let low = x.le(-3.)?.where_cond(&x.zeros_like()?, &middle)?;
            x.ge(3.)?.where_cond(x, &low)
        },
        |g, x| {
            let middle = (g * x.affine(1. / 3., 0.5)?)?;
            let low = x.le(-3.)?.where_cond(&g.zeros_like()?, &middle)?;
            x.ge(3.)?.where_cond(g, &low)
        },
    )
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
    unary(
        "mish",
        x,
        |x| x * log_exp::softplus(x)?.tanh()?,
        |g, x| {
            let tanh = log_exp::softplus(x)?.tanh()?;
            let slope = (tanh.sqr()?.affine(-1., 1.)? * log_exp::sigmoid(x)?)?;
            g * ((slope * x)? + tanh)?
        },
    )
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
        dims => Err(Error::shape("swiglu", "a last dimension of even length", dims)),
    }
}

/// A tensor like `x` of one value.
fn filled(x: &Tensor, value: f64) -> candle_core::Result<Tensor> {
    Tensor::full(value, x.shape(), x.device())?.to_dtype(x.dtype())
}
