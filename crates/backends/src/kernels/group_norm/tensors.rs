//! The same for candle's tensors. What they return is part of no graph.

use super::{GradientsOut, GroupNorm, Inputs, OP, backward, forward};
use crate::Result;
use crate::bridge::{Call, in_rows, run};
use crate::buffer::{Ran, Why};
use crate::kernels::norm::STATISTICS;
pub use crate::kernels::norm::{Gradients, Normalized, Wanted};
use candle_core::{DType, Shape, Tensor};

/// The group norm of `x` in the dtype `out`, and its statistics.
///
/// # Shapes
///
/// `x` has whole samples of `norm`; weight and bias have one element per channel.
///
/// # Errors
///
/// [`Error::LengthMismatch`](crate::Error::LengthMismatch), [`Error::Operand`](crate::Error::Operand) for tensors on different devices.
pub fn value_of(
    norm: GroupNorm,
    x: &Tensor,
    [weight, bias]: [Option<&Tensor>; 2],
    out: DType,
) -> Result<Call<Normalized>> {
    let whole = |x: &Tensor| in_rows(OP, x, x.elem_count());
    let Some(groups) = norm.groups_of(x.elem_count()).filter(|_| x.device().is_cpu()) else {
        return Ok(Call::Composed(Why::Device));
    };
    let x = whole(x)?;
    let (weight, bias) = (weight.map(whole).transpose()?, bias.map(whole).transpose()?);
    let outputs = [(x.shape().clone(), out), (Shape::from((groups, STATISTICS)), DType::F64)];
    let inputs: Vec<&Tensor> = std::iter::once(&x).chain(&weight).chain(&bias).collect();
    let call = run(OP, &inputs, &outputs, |ins, outs| {
        let mut ins = ins.iter();
        let (Some(x), [y, statistics]) = (ins.next(), outs) else {
            return Ok(Ran::Composed(Why::Shape("x")));
        };
        let (weight, bias) =
            (weight.as_ref().and_then(|_| ins.next()), bias.as_ref().and_then(|_| ins.next()));
        forward(norm, Inputs { x, weight, bias }, y, statistics)
    })?;
    Ok(match call {
        Call::Ran(mut made) => {
            let statistics = made.remove(1);
            Call::Ran(Normalized { y: made.remove(0), statistics })
        }
        Call::Composed(why) => Call::Composed(why),
    })
}

/// The gradients that are wanted, from `dy`, that of the value.
///
/// # Shapes
///
/// As [`value_of`], whose `x`, weight and statistics these are; `dy` has as many elements as `x`.
///
/// # Errors
///
/// As [`value_of`].
pub fn gradients_of(
    norm: GroupNorm,
    dy: &Tensor,
    x: &Tensor,
    weight: Option<&Tensor>,
    statistics: &Tensor,
    wanted: Wanted,
) -> Result<Call<Gradients>> {
    let whole = |x: &Tensor| in_rows(OP, x, x.elem_count());
    let (dy, x, weight) = (whole(dy)?, whole(x)?, weight.map(whole).transpose()?);
    let parameter = |wanted: Option<DType>| wanted.map(|dtype| (Shape::from(norm.channels), dtype));
    let outputs: Vec<_> = wanted
        .x
        .map(|dtype| (x.shape().clone(), dtype))
        .into_iter()
        .chain(parameter(wanted.weight))
        .chain(parameter(wanted.bias))
        .collect();
    let inputs: Vec<&Tensor> = [&dy, &x, statistics].into_iter().chain(&weight).collect();
    let call = run(OP, &inputs, &outputs, |ins, outs| {
        let [dy, x, statistics, weight @ ..] = ins else { return Ok(Ran::Composed(Why::Shape("x"))) };
        let mut outs = outs.iter_mut();
        let mut next = |wanted: Option<DType>| wanted.and_then(|_| outs.next());
        let grads = GradientsOut { x: next(wanted.x), weight: next(wanted.weight), bias: next(wanted.bias) };
        backward(norm, dy, Inputs { x, weight: weight.first(), bias: None }, statistics, grads)
    })?;
    Ok(match call {
        Call::Ran(made) => {
            let mut made = made.into_iter();
            let mut next = |wanted: Option<DType>| wanted.and_then(|_| made.next());
            Call::Ran(Gradients { x: next(wanted.x), weight: next(wanted.weight), bias: next(wanted.bias) })
        }
        Call::Composed(why) => Call::Composed(why),
    })
}
