//! Activations: computed in f32 (f64 for f64) and rounded once, with PyTorch's gradient at every kink and far out.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};

use candle_core::Tensor;

use super::elementwise::unary;
use crate::Result;

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
    unary("gelu", x, Tensor::gelu, |g, x| {
        const CUBIC: f64 = 0.044715;
        let scale = (2. / PI).sqrt();
        let square = x.sqr()?;
        let tanh = (square.affine(scale * CUBIC, scale)? * x)?.tanh()?;
        // In this order: far out the first factor is 0, and no later one may be infinite before they meet.
        let slope = (tanh.sqr()?.affine(-1., 1.)? * x)?;
        let slope = (slope * square.affine(1.5 * scale * CUBIC, 0.5 * scale)?)?;
        g * (slope + tanh.affine(0.5, 0.5)?)?
    })
}
