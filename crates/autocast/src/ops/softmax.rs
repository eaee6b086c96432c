//! softmax, log_softmax and logsumexp along one dimension, in f32 or f64 inside whatever the dtype.

use candle_core::Tensor;
use candle_core::shape::Dim;

use super::record::{record, wide};
use crate::Result;
use crate::prepare::float_inputs;

/// `exp(x) / Σ exp(x)` along `dim`.
///
/// # Errors
///
/// A dimension that `x` does not have, a dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// `torch.softmax`; the gradient is `y · (g − Σ g·y)`.
pub fn softmax(x: &Tensor, dim: impl Dim) -> Result<Tensor> {
    let [x] = float_inputs("softmax", [x])?;
    let dim = dim.to_index(x.shape(), "softmax")?;
    let [w] = wide([&x])?;
    let value = if w.elem_count() == 0 { w } else { softmax_wide(&w, dim)? };
    record("softmax", [&x], value.to_dtype(x.dtype())?, move |grad, value, [x]| {
        // A 16-bit value has lost what the gradient needs: take it from the input again.
        let y =
            if value.dtype() == grad.dtype() { value.clone() } else { softmax_wide(&wide([x])?[0], dim)? };
        let gy = (grad * &y)?;
        let total = gy.sum_keepdim(dim)?;
        Ok([(gy - y.broadcast_mul(&total)?)?])
    })
}

fn softmax_wide(x: &Tensor, dim: usize) -> Result<Tensor> {
    let exp = x.broadcast_sub(&x.max_keepdim(dim)?)?.exp()?;
    Ok(exp.broadcast_div(&exp.sum_keepdim(dim)?)?)
}

/// `x − log Σ exp(x)` along `dim`.
///
/// # Errors
///
/// A dimension that `x` does not have, a dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// `torch.log_softmax`; the gradient is `g − softmax(x) · Σ g`.
pub fn log_softmax(x: &Tensor, dim: impl Dim) -> Result<Tensor> {
    let [x] = float_inputs("log_softmax", [x])?;
    let dim = dim.to_index(x.shape(), "log_softmax")?;
    let [w] = wide([&x])?;
    let value = if w.elem_count() == 0 { w } else { log_softmax_wide(&w, dim)? };
    record("log_softmax", [&x], value.to_dtype(x.dtype())?, move |grad, value, [x]| {
        let y = if value.dtype() == grad.dtype() {
            value.clone()
        } else {
            log_softmax_wide(&wide([x])?[0], dim)?
        };
        let total = grad.sum_keepdim(dim)?;
        Ok([(grad - y.exp()?.broadcast_mul(&total)?)?])
    })
}

fn log_softmax_wide(x: &Tensor, dim: usize) -> Result<Tensor> {
    let shifted = x.broadcast_sub(&x.max_keepdim(dim)?)?;
    let lse = shifted.exp()?.sum_keepdim(dim)?.log()?;
    Ok(shifted.broadcast_sub(&lse)?)
}

/// `log Σ exp(x)` along `dim`, which is removed. Over nothing, and over −∞ alone, it is −∞.
///
/// # Errors
///
/// A dimension that `x` does not have, a dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// `torch.logsumexp`; the gradient is `g · exp(x − y)`.
pub fn logsumexp(x: &Tensor, dim: impl Dim) -> Result<Tensor> {
    let [x] = float_inputs("logsumexp", [x])?;
    let dim = dim.to_index(x.shape(), "logsumexp")?;
    let [w] = wide([&x])?;
    let mut kept = x.dims().to_vec();
    kept[dim] = 1;
    let lse = if w.elem_count() == 0 {
        Tensor::full(f64::NEG_INFINITY, kept, x.device())?.to_dtype(w.dtype())?
    } else {
        let anchor = finite(&w.max_keepdim(dim)?)?;
        (w.broadcast_sub(&anchor)?.exp()?.sum_keepdim(dim)?.log()? + anchor)?
    };
    let saved = lse.clone();
    let value = lse.squeeze(dim)?.to_dtype(x.dtype())?;
    record("logsumexp", [&x], value, move |grad, _, [x]| {
        let [x] = wide([x])?;
        let share = x.broadcast_sub(&finite(&saved)?)?.exp()?;
        Ok([share.broadcast_mul(&grad.unsqueeze(dim)?)?])
    })
}

/// `x` with its infinities replaced by 0, so that subtracting them from themselves does not make a NaN.
fn finite(x: &Tensor) -> Result<Tensor> {
    Ok(x.abs()?.eq(f64::INFINITY)?.where_cond(&x.zeros_like()?, x)?)
}
