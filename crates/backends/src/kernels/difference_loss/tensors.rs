//! The same for candle's tensors of one shape, part of no graph.

use candle_core::{DType, Tensor};

use super::{DifferenceLoss, OP, RUN, gradient, losses, sums};
use crate::Result;
use crate::bridge::{self, Call};

fn in_order(x: &Tensor) -> Result<Tensor> {
    bridge::in_rows(OP, x, x.elem_count())
}

/// `loss(x − t)` of each element in `dtype`.
///
/// # Errors
///
/// As [`losses`].
pub fn losses_of(loss: DifferenceLoss, x: &Tensor, t: &Tensor, dtype: DType) -> Result<Call<Tensor>> {
    let (x, t) = (in_order(x)?, in_order(t)?);
    let output = (x.shape().clone(), dtype);
    bridge::run_one(OP, &[&x, &t], output, |ins, out| losses(loss, &ins[0], &ins[1], out))
}

/// Their sums over runs of [`RUN`] elements, in f64.
///
/// # Errors
///
/// As [`sums`].
pub fn sums_of(loss: DifferenceLoss, x: &Tensor, t: &Tensor) -> Result<Call<Tensor>> {
    let (x, t) = (in_order(x)?, in_order(t)?);
    let output = (x.elem_count().div_ceil(RUN).into(), DType::F64);
    bridge::run_one(OP, &[&x, &t], output, |ins, out| sums(loss, &ins[0], &ins[1], out))
}

/// The gradient of `x` in `dtype`: `loss′(x − t) · (grad / divisor)`, where `grad` is a scalar or has the shape of `x`.
///
/// # Errors
///
/// As [`gradient`].
pub fn gradient_of(
    loss: DifferenceLoss,
    [x, t]: [&Tensor; 2],
    grad: &Tensor,
    divisor: f64,
    dtype: DType,
) -> Result<Call<Tensor>> {
    let (x, t, grad) = (in_order(x)?, in_order(t)?, in_order(grad)?);
    let output = (x.shape().clone(), dtype);
    bridge::run_one(OP, &[&x, &t, &grad], output, |ins, out| {
        gradient(loss, &ins[0], &ins[1], &ins[2], divisor, out)
    })
}
