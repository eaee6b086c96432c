//! What elementwise ops of one input have in common.

use backends::kernels::pointwise::{Function, gradient_of, value_of};
use candle_core::Tensor;

use super::empty::of_no_elements;
use crate::Result;
use crate::graph::{Keep, composed};
use crate::prepare::float_inputs;

/// `function` of `x`, rounded once to `x`'s dtype.
pub(super) fn unary(op: &'static str, function: Function, x: &Tensor) -> Result<Tensor> {
    let [x] = float_inputs(op, [x])?;
    if let Some(empty) = of_no_elements(op, &[&x], x.dims(), x.dtype())? {
        return Ok(empty);
    }
    let value = value_of(function, &x)?;
    composed(op, [&x], value, Keep::Inputs, move |grad, _, [x]| Ok([gradient_of(function, x, grad)?]))
}

/// `function` of a wide tensor off the graph, for an op that is made of several.
pub(super) fn apply(function: Function, x: &Tensor) -> candle_core::Result<Tensor> {
    value_of(function, x).map_err(candle_core::Error::wrap)
}
