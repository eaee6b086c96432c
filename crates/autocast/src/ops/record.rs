//! The [node](super::node) of an op that takes several tensor ops: its value is computed off the graph, and its backward
//! is the op's own formula in tensor ops, widened and narrowed here. candle lets no tensor give up its storage, so the
//! value is copied once on its way into the graph; an op that is one call on a storage is a node without this.

use std::sync::Mutex;

use candle_core::{Shape, Tensor};

use super::node::{DeviceStorage, Op, View, apply};
use crate::Result;
use crate::prepare::{retyped, widen};

/// `inputs` detached from the graph and widened to the dtype that sums are accumulated in.
pub(super) fn wide<const N: usize>(inputs: [&Tensor; N]) -> Result<[Tensor; N]> {
    let wide = inputs.iter().map(|t| widen(&t.detach())).collect::<Result<Vec<_>>>()?;
    Ok(wide.try_into().expect("as many tensors come out as went in"))
}

/// `value` as a function of `inputs` (one to three), with a gradient for each of them.
///
/// `backward` gets the gradient of the value, widened to f32 (f64 stays), the value, and the inputs, all detached. It
/// returns one gradient per input, in the input's shape and any float dtype: narrowing is done here, once. That of an
/// input which is not tracked is ignored. Where none is, the value comes back as it is.
pub(super) fn record<const N: usize, F>(
    op: &'static str,
    inputs: [&Tensor; N],
    value: Tensor,
    backward: F,
) -> Result<Tensor>
where
    F: Fn(&Tensor, &Tensor, [&Tensor; N]) -> Result<[Tensor; N]> + Send + Sync + 'static,
{
    if !inputs.iter().any(|t| t.track_op()) {
        return Ok(value);
    }
    let value = match value.is_contiguous() && value.layout().start_offset() == 0 {
        true => value,
        false => value.force_contiguous()?,
    };
    Ok(apply(Recorded { op, value: Mutex::new(Some(value)), backward }, inputs)?)
}

struct Recorded<F> {
    op: &'static str,
    /// Taken by the forward pass, so that the graph does not keep it beside the copy that candle makes a tensor of.
    value: Mutex<Option<Tensor>>,
    backward: F,
}

impl<const N: usize, F> Op<N> for Recorded<F>
where
    F: Fn(&Tensor, &Tensor, [&Tensor; N]) -> Result<[Tensor; N]> + Send + Sync + 'static,
{
    fn name(&self) -> &'static str {
        self.op
    }

    fn forward<S: DeviceStorage>(&self, _: [View<S>; N]) -> candle_core::Result<(S, Shape)> {
        let value = self.value.lock().ok().and_then(|mut value| value.take());
        let Some(value) = value else { candle_core::bail!("{}: a node's value is computed once", self.op) };
        let (storage, layout) = value.storage_and_layout();
        match S::of(&storage) {
            Some(storage) => Ok((storage.try_clone(layout)?, value.shape().clone())),
            None => candle_core::bail!("{}: inputs and value are on different devices", self.op),
        }
    }

    fn backward(
        &self,
        inputs: [&Tensor; N],
        value: &Tensor,
        grad: &Tensor,
        wanted: [bool; N],
    ) -> candle_core::Result<[Option<Tensor>; N]> {
        // Nothing flows from or to a tensor without elements, and candle's reductions refuse them.
        let nothing = value.elem_count() == 0 || inputs.iter().all(|t| t.elem_count() == 0);
        let grads = match nothing {
            true => None,
            false => Some((self.backward)(&widen(grad)?, value, inputs)?),
        };
        let mut out = [const { None }; N];
        for (at, input) in inputs.into_iter().enumerate().filter(|&(at, _)| wanted[at]) {
            out[at] = Some(match &grads {
                None => input.zeros_like()?,
                Some(grads) => retyped(&grads[at].detach(), input.dtype())?,
            });
        }
        Ok(out)
    }
}
