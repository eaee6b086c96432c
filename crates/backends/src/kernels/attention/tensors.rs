//! The same for candle's tensors. What they return is part of no graph.
//!
//! All are `(batch, heads, rows, width)` to the caller; an [`Order`] says how they lie in memory. So queries, keys and values
//! that are views into one projection are read where they lie, and merging the heads of a result in
//! [`Order::RowsFirst`] is a view again:
//!
//! ```text
//! let qkv = projection.reshape((batch, rows, 3, heads, width))?;
//! let part = |i| qkv.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2)?;
//! let inputs = Tensors { query: part(0), key: part(1), value: part(2), bias: None };
//! let attended = value_of(attention, &inputs, Order::RowsFirst)?;
//! let merged = attended.out.transpose(1, 2)?.reshape((batch, rows, heads * width))?;
//! // and back, `grad` being that of `merged`:
//! let grad = grad.reshape((batch, rows, heads, width))?.transpose(1, 2)?;
//! let grads = gradients_of(attention, &inputs, &attended, &grad, GradientOrder::Packed)?;
//! // Gradients::Packed(g): g.reshape((batch, rows, 3 * heads * width)) is the projection's.
//! ```

use candle_core::{DType, Shape, Tensor};

use super::checks::{CHUNK, Sizes, chunked};
use super::{Attention, GradientsOut, Inputs, OP, Order, Saved, backward, forward};
use crate::bridge::{Call, run};
use crate::buffer::{Ran, Why};
use crate::{Error, Result};

/// What both passes read: `(batch, heads, rows, width)` each, and what is added to the scores.
#[derive(Clone, Debug)]
pub struct Tensors {
    /// The queries.
    pub query: Tensor,
    /// The keys.
    pub key: Tensor,
    /// The values.
    pub value: Tensor,
    /// As of [`Inputs`].
    pub bias: Option<Tensor>,
}

impl Tensors {
    /// As kernels read them.
    fn readable(&self) -> Result<Self> {
        let (query, key, value) = (readable(&self.query)?, readable(&self.key)?, readable(&self.value)?);
        Ok(Self { query, key, value, bias: self.bias.as_ref().map(Tensor::detach) })
    }

    /// The three, what else is read, and the bias.
    fn with<'a>(&'a self, others: &[&'a Tensor]) -> Vec<&'a Tensor> {
        [&self.query, &self.key, &self.value]
            .into_iter()
            .chain(others.iter().copied())
            .chain(&self.bias)
            .collect()
    }
}

/// What [`value_of`] returns, and [`gradients_of`] takes.
#[derive(Clone, Debug)]
pub struct Attended {
    /// The result, `(batch, heads, queries, width)`.
    pub out: Tensor,
    /// The logarithm of each softmax's denominator, `(batch, heads, queries)` in f32, in f64 for f64.
    pub lse: Tensor,
}

/// How the gradients are to lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GradientOrder {
    /// In one tensor `(batch, rows, 3, heads, width)`. There are as many keys as queries.
    Packed,
    /// Each by itself.
    Each(Order),
}

/// What [`gradients_of`] returns.
#[derive(Clone, Debug)]
pub enum Gradients {
    /// Those of query, key and value, `(batch, rows, 3, heads, width)`.
    Packed(Tensor),
    /// Those of query, key and value, `(batch, heads, rows, width)` each.
    Each([Tensor; 3]),
}

/// Attention, in the query's dtype. A tensor whose rows no kernel of the device reads where they lie is
/// copied.
///
/// # Errors
///
/// As [`forward`].
pub fn value_of(attention: Attention, inputs: &Tensors, order: Order) -> Result<Call<Attended>> {
    let inputs = inputs.readable()?;
    let Some(sizes) = sizes(&inputs) else { return Ok(Call::Composed(Why::Shape("the query"))) };
    let Sizes { batch, heads, queries, .. } = sizes;
    let of = inputs.query.dtype();
    let outputs = [
        (Shape::from(sizes.out_dims(order, queries).to_vec()), of),
        (Shape::from((batch, heads, queries)), lse_dtype(of)),
    ];
    let call = run(OP, &inputs.with(&[]), &outputs, |ins, outs| {
        let ([query, key, value, bias @ ..], [out, lse]) = (ins, outs) else { return Ok(UNEXPECTED) };
        forward(attention, Inputs { query, key, value, bias: bias.first() }, order, out, lse)
    })?;
    Ok(match call {
        Call::Composed(why) => Call::Composed(why),
        Call::Ran(mut tensors) => {
            let lse = tensors.remove(1);
            Call::Ran(Attended { out: heads_second(tensors.remove(0), order)?, lse })
        }
    })
}

/// The gradients of the three, from what [`value_of`] returned for them and the gradient of `out`.
///
/// # Errors
///
/// As [`backward`].
pub fn gradients_of(
    attention: Attention,
    inputs: &Tensors,
    attended: &Attended,
    grad: &Tensor,
    order: GradientOrder,
) -> Result<Call<Gradients>> {
    let inputs = inputs.readable()?;
    let (out, grad) = (readable(&attended.out)?, readable(grad)?);
    let Some(sizes) = sizes(&inputs) else { return Ok(Call::Composed(Why::Shape("the query"))) };
    let Tensors { query, key, value, .. } = &inputs;
    let Sizes { batch, heads, queries, keys, width } = sizes;
    let mut outputs = vec![(Shape::from((batch, heads, queries, 2)), lse_dtype(query.dtype()))];
    match order {
        GradientOrder::Packed => {
            outputs.push((Shape::from((batch, queries, 3, heads, width)), query.dtype()));
        }
        GradientOrder::Each(order) => {
            let each = [(queries, query), (keys, key), (keys, value)];
            outputs.extend(
                each.map(|(rows, of)| (Shape::from(sizes.out_dims(order, rows).to_vec()), of.dtype())),
            );
        }
    }
    let call = run(OP, &inputs.with(&[&out, &attended.lse, &grad]), &outputs, |ins, outs| {
        let ([query, key, value, out, lse, grad, bias @ ..], [rows, grads @ ..]) = (ins, outs) else {
            return Ok(UNEXPECTED);
        };
        let grads = match (order, grads) {
            (GradientOrder::Packed, [packed]) => GradientsOut::Packed(packed),
            (GradientOrder::Each(order), [query, key, value]) => {
                GradientsOut::Each(order, [query, key, value])
            }
            _ => return Ok(UNEXPECTED),
        };
        let inputs = Inputs { query, key, value, bias: bias.first() };
        backward(attention, inputs, Saved { out, lse, grad }, grads, rows)
    })?;
    let tensors = match call {
        Call::Composed(why) => return Ok(Call::Composed(why)),
        Call::Ran(tensors) => tensors,
    };
    let mut tensors = tensors.into_iter().skip(1);
    let mut next = || tensors.next().ok_or_else(|| device("the gradients are gone"));
    Ok(Call::Ran(match order {
        GradientOrder::Packed => Gradients::Packed(next()?),
        GradientOrder::Each(order) => Gradients::Each([
            heads_second(next()?, order)?,
            heads_second(next()?, order)?,
            heads_second(next()?, order)?,
        ]),
    }))
}

/// What no list of buffers that is made here leads to.
const UNEXPECTED: Ran = Ran::Composed(Why::Shape("the buffers"));

/// What `lse` of inputs of this dtype is stored in.
fn lse_dtype(of: DType) -> DType {
    if of == DType::F64 { DType::F64 } else { DType::F32 }
}

/// The tensor where it lies, or a copy whose rows are whole and lie as kernels load them. The CPU reads all where they lie.
fn readable(x: &Tensor) -> Result<Tensor> {
    let x = x.detach();
    if x.device().is_cpu() {
        return Ok(x);
    }
    let offset = x.layout().start_offset();
    if chunked(x.dims(), x.stride()) && offset.is_multiple_of(CHUNK) {
        return Ok(x);
    }
    x.force_contiguous().map_err(device)
}

fn sizes(of: &Tensors) -> Option<Sizes> {
    let (&[batch, heads, queries, width], &[_, _, keys, _]) = (of.query.dims(), of.key.dims()) else {
        return None;
    };
    Some(Sizes { batch, heads, queries, keys, width })
}

/// `(batch, heads, rows, width)` whatever the order.
fn heads_second(x: Tensor, order: Order) -> Result<Tensor> {
    match order {
        Order::HeadsFirst => Ok(x),
        Order::RowsFirst => x.transpose(1, 2).map_err(device),
    }
}

fn device(error: impl std::fmt::Display) -> Error {
    Error::Device { op: OP.to_string(), message: error.to_string() }
}
