//! Deep graphs. candle's backward pass and its release of a graph both recurse once per op, so that some ten thousand
//! chained ops (a recurrence over a long sequence, a solver's steps) overflow a thread's stack.

use candle_core::{Tensor, backprop::GradStore};

use crate::Result;

/// Address space for the recursion. Pages are committed only as it reaches them.
const STACK_BYTES: usize = 1 << 30;

/// The gradients of `loss`, for graphs of any practical depth.
///
/// The loss is taken by value, and if nobody else holds its graph, the graph is released here as well: the gradients are
/// detached from it, as those of `Tensor::backward` are not. Where something else holds it (logits kept for a metric),
/// release that in [`deep_stack`].
///
/// The recursion has 1 GiB of stack. In an optimized build that is enough for three million chained ops, whose tensors
/// take more than that themselves.
///
/// # Errors
///
/// Where candle has no gradient for an op of the graph.
pub fn backward(loss: Tensor) -> Result<GradStore> {
    deep_stack(move || {
        let mut grads = loss.backward()?;
        let ids: Vec<_> = grads.get_ids().copied().collect();
        for id in ids {
            if let Some(grad) = grads.get_id(id).map(Tensor::detach) {
                grads.insert_id(id, grad);
            }
        }
        Ok(grads)
    })
}

/// Runs `f` on this thread with a stack for deep graphs: to release one, or to call what recurses over one.
///
/// ```
/// # let graph = candle_core::Tensor::new(1f32, &candle_core::Device::Cpu)?;
/// autocast::deep_stack(move || drop(graph));
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn deep_stack<R>(f: impl FnOnce() -> R) -> R {
    stacker::grow(STACK_BYTES, f)
}
