//! Inverse functions that candle lacks, for f32 and f64 tensors off the graph: a rough first value, refined with the
//! function itself to the last few digits of either dtype.

use std::f64::consts::{FRAC_2_SQRT_PI, FRAC_PI_2, PI};

use candle_core::{Result, Tensor};

use super::log_exp::log1p;

/// The arctangent.
pub(super) fn atan(x: &Tensor) -> Result<Tensor> {
    let near = x.abs()?.le(1.)?;
    let y = atan_to_1(&near.where_cond(x, &x.recip()?)?)?;
    near.where_cond(&y, &((x.sign()? * FRAC_PI_2)? - &y)?)
}

/// [`atan`] for arguments of magnitude at most 1.
///
/// # Source
///
/// The first value, off by 4e-3, is that of Rajan et al., Efficient approximations for the arctangent function, IEEE Signal
/// Processing Magazine, 2006. What is missing from it is the angle between it and the point `(1, x)`, by its series.
fn atan_to_1(x: &Tensor) -> Result<Tensor> {
    let first = (x * x.abs()?.affine(-0.273, PI / 4. + 0.273)?)?;
    let (sin, cos) = (first.sin()?, first.cos()?);
    let d = ((x * &cos)? - &sin)?.div(&(cos + (x * sin)?)?)?;
    let square = d.sqr()?;
    let series = (&square * square.affine(0.2, -1. / 3.)?)?.affine(1., 1.)?;
    first + (d * series)?
}

/// The arcsine; NaN outside `[-1, 1]`.
pub(super) fn asin(x: &Tensor) -> Result<Tensor> {
    atan(&(x / one_less_square(x)?.sqrt()?)?)
}

/// The arccosine, in a form that keeps its digits near 1; NaN outside `[-1, 1]`.
pub(super) fn acos(x: &Tensor) -> Result<Tensor> {
    let half = atan(&x.affine(-1., 1.)?.div(&x.affine(1., 1.)?)?.sqrt()?)?;
    half * 2.
}

/// `1 − x²`, which keeps its digits near ±1.
pub(super) fn one_less_square(x: &Tensor) -> Result<Tensor> {
    x.affine(-1., 1.)? * x.affine(1., 1.)?
}

/// The inverse of the error function: ±∞ at ±1, NaN beyond.
///
/// # Source
///
/// The first value, off by a factor of 2e-3, is that of Winitzki, A handy approximation for the error function and its
/// inverse, 2008; two of Halley's steps follow, each of which triples the number of right digits.
pub(super) fn erfinv(x: &Tensor) -> Result<Tensor> {
    const A: f64 = 0.147;
    let log = log1p(&x.sqr()?.neg()?)?;
    let b = log.affine(0.5, 2. / (PI * A))?;
    let c = log.affine(-1. / A, 0.)?;
    let mut y = (x.sign()? * c.div(&((b.sqr()? + &c)?.sqrt()? + b)?)?.sqrt()?)?;
    for _ in 0..2 {
        let slope = (y.sqr()?.neg()?.exp()? * FRAC_2_SQRT_PI)?;
        let newton = (y.erf()? - x)?.div(&slope)?;
        y = (&y - newton.div(&(&y * &newton)?.affine(1., 1.)?)?)?;
    }
    x.abs()?.eq(1.)?.where_cond(&(x * f64::INFINITY)?, &y)
}
