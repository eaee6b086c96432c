//! softmax, log_softmax and logsumexp along one dimension, in f32 or f64 inside whatever the dtype.

use backends::kernels::pointwise::Function;
use backends::kernels::softmax::{self as kernel, Form, Seen};
use backends::kernels::sum::Term;
use candle_core::shape::Dim;
use candle_core::{DType, Tensor};

use crate::dtypes::{accumulation_dtype, check_float};
use crate::graph::{Attribute, Backward, Call, Keep, Op, Value, composed, record, wide};
use crate::ops::shape::empty::{of_no_elements, without_gradient};
use crate::plain::{apply, minus, over, plus, times};
use crate::region::{cast_to, float_inputs, uncast};
use crate::total::{total, total_f64};
use crate::{Error, Result};

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
    of_form("softmax", Form::Softmax, x, dim)
}

fn of_form(op: &'static str, form: Form, x: &Tensor, dim: impl Dim) -> Result<Tensor> {
    let dim = dim.to_index(x.shape(), op)?;
    if let Some(value) = by_kernel(op, form, x, dim)? {
        return Ok(value);
    }
    let [x] = float_inputs(op, [("x", x)])?;
    if let Some(empty) = of_no_elements(op, &[&x], x.dims(), x.dtype())? {
        return Ok(empty);
    }
    let of_wide = move |x: &Tensor| match form {
        Form::Softmax => softmax_wide(x, dim),
        Form::LogSoftmax => log_softmax_wide(x, dim),
    };
    let value = of_wide(&wide([&x])?[0])?.to_dtype(x.dtype())?;
    composed(Call::from(op).with("dim", dim), [&x], value, kept(&x), move |grad, value, [x]| {
        let y = match value.dtype() == grad.dtype() {
            true => value.clone(),
            false => of_wide(&wide([x])?[0])?,
        };
        Ok([match form {
            Form::Softmax => {
                let gy = times(grad, &y)?;
                let total = total(&gy, &[dim])?;
                minus(&gy, &times(&y, &total)?)?
            }
            Form::LogSoftmax => minus(grad, &times(&apply(Function::Exp, &y)?, &total(grad, &[dim])?)?)?,
        }])
    })
}

/// The op as one kernel along the last dimension, where one takes it. It reads `x` as it is.
fn by_kernel(op: &'static str, form: Form, x: &Tensor, dim: usize) -> Result<Option<Tensor>> {
    let inputs = uncast(op, &[x])?;
    let (x, dtype) = (&inputs[0].0, inputs[0].1);
    check_float(op, "x", x)?;
    if dim + 1 != x.rank() || x.elem_count() == 0 {
        return Ok(None);
    }
    // The gradient needs the value in full.
    let Some(wide) = kernel::value_of(form, Seen::Whole, &x.detach(), accumulation_dtype(dtype))? else {
        return Ok(None);
    };
    let narrow = dtype != wide.dtype();
    let value = if narrow { cast_to(&wide, dtype)? } else { wide.clone() };
    let saved = Softmax { op, form, dtype: x.dtype(), wide: narrow.then_some(wide) };
    record(saved, &[x], Value::fresh(value)).map(Some)
}

struct Softmax {
    op: &'static str,
    form: Form,
    /// Of the input.
    dtype: DType,
    /// The value before it was narrowed, if it was.
    wide: Option<Tensor>,
}

impl Op for Softmax {
    fn name(&self) -> &'static str {
        self.op
    }

    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        vec![("dim", Attribute::Integer(-1))]
    }

    fn keeps_value(&self) -> bool {
        self.wide.is_none()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let value = self.wide.as_ref().or(cx.value());
        let gradient = |y: &Tensor| -> Result<Option<Tensor>> {
            let grad =
                kernel::gradient_of(self.form, Seen::Whole, y, &cast_to(cx.grad(), y.dtype())?, y.dtype())?;
            grad.map(|grad| cast_to(&grad, self.dtype)).transpose()
        };
        match value.map(gradient).transpose()?.flatten() {
            Some(grad) => Ok(vec![Some(grad)]),
            None => Err(Error::refused(self.op)),
        }
    }
}

/// The value, or the inputs where a 16-bit value has lost what the gradient needs.
fn kept(x: &Tensor) -> Keep {
    match x.dtype() == accumulation_dtype(x.dtype()) {
        true => Keep::Value,
        false => Keep::Inputs,
    }
}

pub(crate) fn softmax_wide(x: &Tensor, dim: usize) -> Result<Tensor> {
    let exp = apply(Function::Exp, &minus(x, &x.max_keepdim(dim)?)?)?;
    over(&exp, &total(&exp, &[dim])?)
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
    of_form("log_softmax", Form::LogSoftmax, x, dim)
}

fn log_softmax_wide(x: &Tensor, dim: usize) -> Result<Tensor> {
    let shifted = minus(x, &x.max_keepdim(dim)?)?;
    minus(&shifted, &log_total(&apply(Function::Exp, &shifted)?, dim)?)
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
    let [x] = float_inputs("logsumexp", [("x", x)])?;
    let dim = dim.to_index(x.shape(), "logsumexp")?;
    let [w] = wide([&x])?;
    let mut kept = x.dims().to_vec();
    kept[dim] = 1;
    if kept.contains(&0) {
        return without_gradient(
            "logsumexp",
            &[&x],
            Tensor::zeros(kept, x.dtype(), x.device())?.squeeze(dim)?,
        );
    }
    let lse = if w.elem_count() == 0 {
        Tensor::full(f64::NEG_INFINITY, kept, x.device())?.to_dtype(w.dtype())?
    } else {
        let anchor = finite(&w.max_keepdim(dim)?)?;
        plus(&log_total(&apply(Function::Exp, &minus(&w, &anchor)?)?, dim)?, &anchor)?
    };
    let value = lse.squeeze(dim)?.to_dtype(x.dtype())?;
    composed(Call::from("logsumexp").with("dim", dim), [&x], value, Keep::Inputs, move |grad, _, [x]| {
        // Not exp(x − lse), which rounds the logarithm beside a large maximum before it subtracts it.
        let [x] = wide([x])?;
        let exp = apply(Function::Exp, &minus(&x, &finite(&x.max_keepdim(dim)?)?)?)?;
        let sum = total(&exp, &[dim])?;
        let share = over(&exp, &sum.eq(0.)?.where_cond(&sum.ones_like()?, &sum)?)?;
        Ok([times(&share, &grad.unsqueeze(dim)?)?])
    })
}

/// The logarithm of the sum of `exp` along `dim`. Taken in f64, where a sum that is barely above 1 still is.
pub(crate) fn log_total(exp: &Tensor, dim: usize) -> Result<Tensor> {
    Ok(total_f64(exp, &[dim], Term::Value)?.log()?.to_dtype(exp.dtype())?)
}

/// `x` with its infinities replaced by 0, so that subtracting them from themselves does not make a NaN.
fn finite(x: &Tensor) -> Result<Tensor> {
    Ok(x.abs()?.eq(f64::INFINITY)?.where_cond(&x.zeros_like()?, x)?)
}
