//! The node of an op whose value was composed of several tensor ops off the graph: its backward is a formula in tensor ops,
//! widened and narrowed here.

use candle_core::Tensor;

use super::node::{Attribute, Backward, Op};
use super::record::{Value, record};
use crate::Result;
use crate::dtypes::{accumulation_dtype, rounded};

/// What a composed op's formula needs beside the gradient. Of the rest it is given shapes and dtypes alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Neither inputs nor value.
    Nothing,
    /// The inputs.
    Inputs,
    /// The value.
    Value,
    /// Inputs and value.
    Both,
}

/// An op by name, with what it was called with.
pub(crate) struct Call {
    name: &'static str,
    attributes: Vec<(&'static str, Attribute)>,
}

impl From<&'static str> for Call {
    fn from(name: &'static str) -> Self {
        Self { name, attributes: Vec::new() }
    }
}

impl Call {
    pub(crate) fn with(mut self, name: &'static str, attribute: impl Into<Attribute>) -> Self {
        self.attributes.push((name, attribute.into()));
        self
    }
}

/// `inputs` detached from the graph and widened to the dtype that sums are accumulated in.
pub(crate) fn wide<const N: usize>(inputs: [&Tensor; N]) -> Result<[Tensor; N]> {
    let wide = inputs.iter().map(|t| widened(t)).collect::<Result<Vec<_>>>()?;
    Ok(wide.try_into().expect("as many tensors come out as went in"))
}

fn widened(tensor: &Tensor) -> Result<Tensor> {
    rounded(tensor, accumulation_dtype(tensor.dtype()))
}

/// `value`, whose storage no other tensor has, as a function of `inputs`, with a gradient for each of them.
///
/// `backward` gets the gradient of the value, widened to f32 (f64 stays), the value, and the inputs, all detached. It
/// returns one gradient per input, in the input's shape and any float dtype: narrowing is done here, once. That of an
/// input which is not tracked is ignored. Where none is, the value comes back as it is.
pub(crate) fn composed<const N: usize, F>(
    call: impl Into<Call>,
    inputs: [&Tensor; N],
    value: Tensor,
    keep: Keep,
    backward: F,
) -> Result<Tensor>
where
    F: Fn(&Tensor, &Tensor, [&Tensor; N]) -> Result<[Tensor; N]> + Send + Sync + 'static,
{
    if !inputs.iter().any(|t| t.track_op()) {
        return Ok(value.detach());
    }
    let saved = inputs.map(|input| match keep {
        Keep::Inputs | Keep::Both => Ok(input.detach()),
        Keep::Nothing | Keep::Value => outline(input),
    });
    let saved = saved.into_iter().collect::<Result<Vec<_>>>()?;
    let saved = saved.try_into().expect("as many tensors are saved as came");
    let value = Value::fresh(value);
    record(Composed { call: call.into(), keep, saved, backward }, &inputs, value)
}

/// A tensor of the shape, dtype and device of `tensor` that keeps one number for all elements.
fn outline(tensor: &Tensor) -> Result<Tensor> {
    Ok(Tensor::zeros((), tensor.dtype(), tensor.device())?.broadcast_as(tensor.shape())?)
}

struct Composed<F, const N: usize> {
    call: Call,
    keep: Keep,
    saved: [Tensor; N],
    backward: F,
}

impl<const N: usize, F> Op for Composed<F, N>
where
    F: Fn(&Tensor, &Tensor, [&Tensor; N]) -> Result<[Tensor; N]> + Send + Sync + 'static,
{
    fn name(&self) -> &'static str {
        self.call.name
    }

    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        self.call.attributes.clone()
    }

    fn keeps_value(&self) -> bool {
        matches!(self.keep, Keep::Value | Keep::Both)
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let inputs = self.saved.each_ref();
        // Nothing flows from or to a tensor without elements, and candle's reductions refuse them.
        let nothing = cx.grad().elem_count() == 0 || inputs.iter().all(|t| t.elem_count() == 0);
        let grads = match (nothing, cx.value()) {
            (true, _) => None,
            (false, Some(value)) => Some((self.backward)(&widened(cx.grad())?, value, inputs)?),
            (false, None) => Some((self.backward)(&widened(cx.grad())?, &outline(cx.grad())?, inputs)?),
        };
        let grad = |at: usize| -> Result<Tensor> {
            match &grads {
                None => Ok(Tensor::zeros(inputs[at].shape(), inputs[at].dtype(), inputs[at].device())?),
                Some(grads) => rounded(&grads[at], inputs[at].dtype()),
            }
        };
        (0..N).map(|at| cx.wanted(at).then(|| grad(at)).transpose()).collect()
    }
}
