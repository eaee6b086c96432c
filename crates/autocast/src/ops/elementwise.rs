//! What elementwise ops of one input have in common.

use candle_core::Tensor;

use super::record::{record, wide};
use crate::Result;
use crate::prepare::float_inputs;

/// A function of `x` in f32 (f64 for f64), rounded once to `x`'s dtype. `backward` turns the gradient of the value and
/// the widened input into the gradient of the input.
pub(super) fn unary(
    op: &'static str,
    x: &Tensor,
    forward: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
    backward: impl Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let [x] = float_inputs(op, [x])?;
    let [w] = wide([&x])?;
    let value = forward(&w)?.to_dtype(x.dtype())?;
    record(op, [&x], value, move |grad, _, [x]| {
        let [w] = wide([x])?;
        Ok([backward(grad, &w)?])
    })
}

/// [`unary`] for functions whose gradient is simplest in terms of their value. A 16-bit value has lost what the gradient
/// needs (1 − tanh² near ±1): there it is computed again.
pub(super) fn unary_by_value(
    op: &'static str,
    x: &Tensor,
    forward: impl Fn(&Tensor) -> candle_core::Result<Tensor> + Send + Sync + 'static,
    backward: impl Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let [x] = float_inputs(op, [x])?;
    let [w] = wide([&x])?;
    let value = forward(&w)?.to_dtype(x.dtype())?;
    record(op, [&x], value, move |grad, value, [x]| {
        let value = if value.dtype() == grad.dtype() { value.clone() } else { forward(&wide([x])?[0])? };
        Ok([backward(grad, &value)?])
    })
}
