//! Losses of pairs of elements: mse, l1, smooth_l1, huber and kl_div. Both arguments are differentiated.

use candle_core::Tensor;

use super::reduction::Reduction;
use super::rows::over_nothing;
use crate::dtypes::{accumulation_dtype, promote_types};
use crate::graph::{Keep, composed, wide};
use crate::region::float_inputs;
use crate::total::quotient_of;
use crate::{Error, Result};

/// `(input − target)²`.
///
/// # Errors
///
/// Shapes that differ, dtypes that do not promote or are not floats.
///
/// # Source
///
/// `torch.nn.functional.mse_loss`.
pub fn mse_loss(input: &Tensor, target: &Tensor, reduction: Reduction) -> Result<Tensor> {
    of_difference("mse_loss", input, target, reduction, Tensor::sqr, |d| d * 2.)
}

/// `|input − target|`, with gradient 0 where they are equal.
///
/// # Errors
///
/// As [`mse_loss`].
///
/// # Source
///
/// `torch.nn.functional.l1_loss`.
pub fn l1_loss(input: &Tensor, target: &Tensor, reduction: Reduction) -> Result<Tensor> {
    of_difference("l1_loss", input, target, reduction, Tensor::abs, sign)
}

/// `d²/2β` for a difference d below β, `|d| − β/2` beyond; [`l1_loss`] for β = 0.
///
/// # Errors
///
/// As [`mse_loss`], and a β that is negative or not finite.
///
/// # Source
///
/// Girshick, Fast R-CNN, 2015; `torch.nn.functional.smooth_l1_loss`.
pub fn smooth_l1_loss(input: &Tensor, target: &Tensor, beta: f64, reduction: Reduction) -> Result<Tensor> {
    const OP: &str = "smooth_l1_loss";
    if !(beta >= 0. && beta.is_finite()) {
        return Err(Error::argument(OP, "beta", beta, "a finite number that is not negative"));
    }
    if beta == 0. {
        return of_difference(OP, input, target, reduction, Tensor::abs, sign);
    }
    let value = move |d: &Tensor| {
        // The quotient first: the square of a small difference vanishes.
        let near = (d * quotient_of(d, beta)?)?.affine(0.5, 0.)?;
        d.abs()?.lt(beta)?.where_cond(&near, &d.abs()?.affine(1., -0.5 * beta)?)
    };
    let slope = move |d: &Tensor| d.abs()?.lt(beta)?.where_cond(&quotient_of(d, beta)?, &sign(d)?);
    of_difference(OP, input, target, reduction, value, slope)
}

/// `d²/2` for a difference d below δ, `δ(|d| − δ/2)` beyond.
///
/// # Errors
///
/// As [`mse_loss`], and a δ that is not positive and finite.
///
/// # Source
///
/// Huber, 1964; `torch.nn.functional.huber_loss`.
pub fn huber_loss(input: &Tensor, target: &Tensor, delta: f64, reduction: Reduction) -> Result<Tensor> {
    const OP: &str = "huber_loss";
    if !(delta > 0. && delta.is_finite()) {
        return Err(Error::argument(OP, "delta", delta, "a positive finite number"));
    }
    let value = move |d: &Tensor| huber(d, delta);
    of_difference(OP, input, target, reduction, value, move |d| huber_slope(d, delta))
}

fn huber(d: &Tensor, delta: f64) -> candle_core::Result<Tensor> {
    let size = d.abs()?;
    let near = (d * d.affine(0.5, 0.)?)?;
    size.lt(delta)?.where_cond(&near, &(size.affine(1., -0.5 * delta)? * delta)?)
}

fn huber_slope(d: &Tensor, delta: f64) -> candle_core::Result<Tensor> {
    d.abs()?.lt(delta)?.where_cond(d, &(sign(d)? * delta)?)
}

/// −1, 0 or 1, and NaN for NaN.
fn sign(d: &Tensor) -> candle_core::Result<Tensor> {
    d.ne(d)?.where_cond(d, &d.sign()?)
}

fn of_difference(
    op: &'static str,
    input: &Tensor,
    target: &Tensor,
    reduction: Reduction,
    value: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
    slope: impl Fn(&Tensor) -> candle_core::Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let slope = move |x: &Tensor, t: &Tensor| {
        let slope = slope(&(x - t)?)?;
        let opposite = slope.neg()?;
        Ok([slope, opposite])
    };
    of_pair(op, [input, target], reduction, |x, t| value(&(x - t)?), slope)
}

/// A loss of two tensors of one shape; `slopes` are its derivatives with respect to both.
pub(super) fn of_pair(
    op: &'static str,
    inputs: [&Tensor; 2],
    reduction: Reduction,
    value: impl FnOnce(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
    slopes: impl Fn(&Tensor, &Tensor) -> candle_core::Result<[Tensor; 2]> + Send + Sync + 'static,
) -> Result<Tensor> {
    let [input, target] = float_inputs(op, [("input", inputs[0]), ("target", inputs[1])])?;
    if input.dims() != target.dims() {
        return Err(Error::shape(op, "target", target.dims(), format!("{:?}", input.dims())));
    }
    let dtype = promote_types(op, input.dtype(), target.dtype())?;
    if input.elem_count() == 0 {
        return over_nothing(op, &[&input, &target], dtype, reduction, input.dims());
    }
    let both = move |inputs: [&Tensor; 2]| -> Result<[Tensor; 2]> {
        let [x, t] = wide(inputs)?;
        let dtype = accumulation_dtype(dtype);
        Ok([x.to_dtype(dtype)?, t.to_dtype(dtype)?])
    };
    let [x, t] = both([&input, &target])?;
    let value = reduction.apply(&value(&x, &t)?)?.to_dtype(dtype)?;
    composed(op, [&input, &target], value, Keep::Inputs, move |grad, _, inputs| {
        let [x, t] = both(inputs)?;
        let grad = reduction.spread(grad, x.dims())?;
        let [dx, dt] = slopes(&x, &t)?;
        Ok([(dx * &grad)?, (dt * grad)?])
    })
}

/// Whether [`kl_div`]'s target holds probabilities or their logarithms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KlTarget {
    /// Probabilities.
    #[default]
    Probability,
    /// Log-probabilities.
    LogProbability,
}

/// `target · (log target − input)`, the input being log-probabilities; 0 where the target is 0.
///
/// # Errors
///
/// As [`mse_loss`].
///
/// # Source
///
/// Kullback and Leibler, 1951; `torch.nn.functional.kl_div`.
pub fn kl_div(input: &Tensor, target: &Tensor, kind: KlTarget, reduction: Reduction) -> Result<Tensor> {
    let value = move |x: &Tensor, t: &Tensor| match kind {
        KlTarget::LogProbability => t.exp()? * (t - x)?,
        KlTarget::Probability => {
            let terms = (t * (t.log()? - x)?)?;
            t.eq(0.)?.where_cond(&t.zeros_like()?, &terms)
        }
    };
    of_pair("kl_div", [input, target], reduction, value, move |x, t| match kind {
        KlTarget::LogProbability => {
            let p = t.exp()?;
            Ok([p.neg()?, (p * ((t - x)? + 1.)?)?])
        }
        // Where the target is 0 the term is 0 whatever the input, and so is its gradient, as in PyTorch.
        KlTarget::Probability => {
            let dt = ((t.log()? - x)? + 1.)?;
            Ok([t.neg()?, t.eq(0.)?.where_cond(&t.zeros_like()?, &dt)?])
        }
    })
}
