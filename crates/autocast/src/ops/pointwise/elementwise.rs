//! What elementwise ops of one input have in common.

use backends::kernels::pointwise::{Function, gradient_of, value_of};
use candle_core::Tensor;

use crate::Result;
use crate::dtypes::check_float;
use crate::graph::{Attribute, Backward, Op, Value, record};
use crate::ops::shape::empty::of_no_elements;
use crate::ops::shape::layout::{as_it_lies, channels_second};
use crate::region::float_inputs;

/// `function` of `x`, rounded once to `x`'s dtype.
pub(crate) fn unary(op: &'static str, function: Function, x: &Tensor) -> Result<Tensor> {
    let [x] = float_inputs(op, [("x", x)])?;
    unary_of(op, function, &x)
}

/// [`unary`] of floats that are as the region wants them.
pub(crate) fn unary_of(op: &'static str, function: Function, x: &Tensor) -> Result<Tensor> {
    check_float(op, "x", x)?;
    if let Some(laid) = as_it_lies(x)? {
        return Ok(channels_second(&unary_of(op, function, &laid)?)?);
    }
    if let Some(empty) = of_no_elements(op, &[x], x.dims(), x.dtype())? {
        return Ok(empty);
    }
    let plain = x.detach();
    let value = value_of(function, &plain)?;
    record(Unary { op, function, x: plain }, &[x], Value::fresh(value))
}

struct Unary {
    op: &'static str,
    function: Function,
    x: Tensor,
}

impl Op for Unary {
    fn name(&self) -> &'static str {
        self.op
    }

    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        let numbers = self.function.settings().into_iter();
        numbers.map(|(name, value)| (name, Attribute::Number(value))).collect()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(gradient_of(self.function, &self.x, cx.grad())?)])
    }
}
