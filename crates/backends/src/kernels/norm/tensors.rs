//! The same for candle's tensors. What they return is part of no graph.

use super::{GradientsOut, Inputs, Norm, OP, STATISTICS, backward, forward};
use crate::Result;
use crate::bridge::{candle, in_rows, run};
use crate::buffer::{Ran, Why};
use candle_core::{DType, Shape, Tensor};

/// What [`value_of`] returns.
#[derive(Clone, Debug)]
pub struct Normalized {
    /// The value, of `x`'s shape.
    pub y: Tensor,
    /// `[rows, 3]` in f64, for [`gradients_of`].
    pub statistics: Tensor,
}

/// Which gradients [`gradients_of`] is to return, and in which dtypes: any float, f64 where `x` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// That of `x`.
    pub x: Option<DType>,
    /// That of the weight.
    pub weight: Option<DType>,
    /// That of the bias.
    pub bias: Option<DType>,
}

/// What [`gradients_of`] returns: what was wanted.
#[derive(Clone, Debug, Default)]
pub struct Gradients {
    /// Of `x`'s shape.
    pub x: Option<Tensor>,
    /// `[width]`.
    pub weight: Option<Tensor>,
    /// `[width]`.
    pub bias: Option<Tensor>,
}

/// The norm of the rows of `x` in the dtype `out`, and their statistics. `None` where no kernel takes the call: other
/// devices and dtypes, an `x` in f64 beside narrower ones, rows of no elements.
///
/// # Shapes
///
/// The trailing dimensions of `x` multiply to `norm.width`, as do all of `weight` and `bias`.
///
/// # Errors
///
/// [`Error::LengthMismatch`](crate::Error::LengthMismatch), [`Error::Operand`](crate::Error::Operand) for tensors on
/// different devices, and what the device reports.
pub fn value_of(
    norm: Norm,
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    out: DType,
) -> Result<Option<Normalized>> {
    if norm.width == 0 {
        return Ok(None);
    }
    let x = in_rows(OP, x, norm.width)?;
    let contiguous = |p: &Tensor| p.contiguous().map_err(candle(OP));
    let (weight, bias) = (weight.map(contiguous).transpose()?, bias.map(contiguous).transpose()?);
    let rows = x.elem_count() / norm.width;
    let outputs = [(x.shape().clone(), out), (Shape::from((rows, STATISTICS)), DType::F64)];
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
    Ok(call.ran().map(|mut tensors| {
        let statistics = tensors.remove(1);
        Normalized { y: tensors.remove(0), statistics }
    }))
}

/// The gradients that are wanted, from `dy`, that of the value; that of `x` with `plus`, of its dtype, added to it. `None` as
/// for [`value_of`].
///
/// # Shapes
///
/// As [`value_of`], whose `x`, weight and statistics these are; `dy` has as many elements as `x`.
///
/// # Errors
///
/// As [`value_of`].
pub fn gradients_of(
    norm: Norm,
    dy: &Tensor,
    x: &Tensor,
    weight: Option<&Tensor>,
    statistics: &Tensor,
    wanted: Wanted,
    plus: Option<&Tensor>,
) -> Result<Option<Gradients>> {
    if norm.width == 0 {
        return Ok(None);
    }
    let (dy, x) = (in_rows(OP, dy, norm.width)?, in_rows(OP, x, norm.width)?);
    let weight = weight.map(|p| p.contiguous().map_err(candle(OP))).transpose()?;
    let dx = wanted.x.map(|dtype| (x.shape().clone(), dtype));
    let parameter = |wanted: Option<DType>| wanted.map(|dtype| (Shape::from(norm.width), dtype));
    let outputs: Vec<_> =
        dx.into_iter().chain(parameter(wanted.weight)).chain(parameter(wanted.bias)).collect();
    let plus = plus.map(|plus| in_rows(OP, plus, plus.elem_count())).transpose()?;
    let inputs: Vec<&Tensor> = [&dy, &x, statistics].into_iter().chain(&weight).chain(&plus).collect();
    let call = run(OP, &inputs, &outputs, |ins, outs| {
        let [dy, x, statistics, others @ ..] = ins else { return Ok(Ran::Composed(Why::Shape("x"))) };
        let mut others = others.iter();
        let weight = weight.as_ref().and_then(|_| others.next());
        let mut outs = outs.iter_mut();
        let x_grad = wanted.x.and_then(|_| outs.next());
        let mut parameter = |wanted: Option<DType>| wanted.and_then(|_| outs.next());
        let (weight_grad, bias_grad) = (parameter(wanted.weight), parameter(wanted.bias));
        let grads = GradientsOut { x: x_grad, plus: others.next(), weight: weight_grad, bias: bias_grad };
        backward(norm, dy, Inputs { x, weight, bias: None }, statistics, grads)
    })?;
    Ok(call.ran().map(|tensors| {
        let mut tensors = tensors.into_iter();
        let x = wanted.x.and_then(|_| tensors.next());
        let mut parameter = |wanted: Option<DType>| wanted.and_then(|_| tensors.next());
        Gradients { x, weight: parameter(wanted.weight), bias: parameter(wanted.bias) }
    }))
}
