//! The same for candle's tensors, over their last dimension. What they return is part of no graph.

use super::{Form, OP, Seen, backward, forward};
use crate::Result;
use crate::bridge::{in_rows, run};
use crate::buffer::{Ran, Why};
use candle_core::{DType, Tensor};

/// The value over the last dimension of `x` in the dtype `out`. `None` where no kernel takes the call: other devices and
/// dtypes, f64 beside narrower floats, a last dimension of no elements.
///
/// # Errors
///
/// What the device reports.
pub fn value_of(form: Form, seen: Seen, x: &Tensor, out: DType) -> Result<Option<Tensor>> {
    let Some(&width) = x.dims().last().filter(|&&width| width > 0) else { return Ok(None) };
    let x = in_rows(OP, x, width)?;
    let call = run(OP, &[&x], &[(x.shape().clone(), out)], |ins, outs| match (ins, outs) {
        ([x], [y]) => forward(form, seen, width, x, y),
        _ => Ok(Ran::Composed(Why::Shape("x"))),
    })?;
    Ok(call.ran().and_then(|mut outputs| outputs.pop()))
}

/// The gradient of `x` in the dtype `out`, from that of the value and the value `y`, which is best one of f32 (f64). `None` as
/// for [`value_of`].
///
/// # Errors
///
/// [`Error::LengthMismatch`](crate::Error::LengthMismatch), [`Error::Operand`](crate::Error::Operand) for tensors on
/// different devices, and what the device reports.
pub fn gradient_of(form: Form, seen: Seen, y: &Tensor, dy: &Tensor, out: DType) -> Result<Option<Tensor>> {
    let Some(&width) = y.dims().last().filter(|&&width| width > 0) else { return Ok(None) };
    let (dy, y) = (in_rows(OP, dy, width)?, in_rows(OP, y, width)?);
    let call = run(OP, &[&dy, &y], &[(y.shape().clone(), out)], |ins, outs| match (ins, outs) {
        ([dy, y], [dx]) => backward(form, seen, width, dy, y, dx),
        _ => Ok(Ran::Composed(Why::Shape("y"))),
    })?;
    Ok(call.ran().and_then(|mut outputs| outputs.pop()))
}
