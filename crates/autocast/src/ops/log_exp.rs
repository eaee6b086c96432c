//! log1p, expm1 and what is built on them, for f32 and f64 tensors off the graph. candle has neither, and `log(1 + x)`
//! loses every digit of a small x.

use candle_core::{Result, Tensor};

/// `log(1 + x)`, accurate to a few ULP everywhere.
///
/// # Source
///
/// Higham, Accuracy and Stability of Numerical Algorithms, problem 1.5: the rounding error of `u = 1 + x` cancels in
/// `log(u) / (u − 1)`.
pub(super) fn log1p(x: &Tensor) -> Result<Tensor> {
    let u = (x + 1.)?;
    let quotient = (u.log()? * x)?.div(&(&u - 1.)?)?;
    let exact = (u.eq(1.)? + x.eq(f64::INFINITY)?)?;
    exact.where_cond(x, &quotient)
}

/// `exp(x) − 1`, accurate to a few ULP everywhere.
///
/// # Source
///
/// Higham, section 1.14.1, for small x, where the difference cancels.
pub(super) fn expm1(x: &Tensor) -> Result<Tensor> {
    let u = x.exp()?;
    let difference = (&u - 1.)?;
    let quotient = (&difference * x)?.div(&u.log()?)?;
    let small = u.eq(1.)?.where_cond(x, &quotient)?;
    x.abs()?.lt(1.)?.where_cond(&small, &difference)
}

/// `log(1 + exp(x))`, which overflows nowhere.
pub(super) fn softplus(x: &Tensor) -> Result<Tensor> {
    log1p(&x.abs()?.neg()?.exp()?)? + positive_part(x)?
}

/// `1 / (1 + exp(−x))`.
pub(super) fn sigmoid(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.)?.recip()
}

/// `max(x, 0)`, NaN where `x` is.
pub(super) fn positive_part(x: &Tensor) -> Result<Tensor> {
    x.le(0.)?.where_cond(&x.zeros_like()?, x)
}
