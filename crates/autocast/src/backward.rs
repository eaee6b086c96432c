//! Deep graphs. candle's backward pass and its release of a graph both recurse once per op, so that some ten thousand
//! chained ops (a recurrence over a long sequence, a solver's steps) overflow a thread's stack.

use candle_core::{Tensor, backprop::GradStore};

use crate::Result;

/// Address space for the recursion, the most that is asked for. Pages are committed only as it reaches them.
const STACK_BYTES: usize = 1 << 30;

/// Where less than this is to be had, the thread's own stack is as good.
const LEAST_STACK_BYTES: usize = 4 << 20;

/// The gradients of `loss`, for graphs of any practical depth.
///
/// The loss is taken by value, and if nobody else holds its graph, the graph is released here as well. Where something
/// else holds it (logits kept for a metric), release that in [`deep_stack`].
///
/// **Gradients are constants**: they are detached from the graph, as those of `Tensor::backward` are from this crate's ops.
/// A loss that is made of gradients (a gradient penalty, a Hessian) has no second derivative here; what is computed from a
/// gradient gets none from it.
///
/// The recursion has 1 GiB of stack. In an optimized build that is enough for three million chained ops, whose tensors
/// take more than that themselves. Where a process may not have that much address space, it has what there is.
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
/// The stack is the largest that is to be had of 1 GiB, half of it and so on; where there is none, `f` runs on the
/// thread's own.
///
/// ```
/// # let graph = candle_core::Tensor::new(1f32, &candle_core::Device::Cpu)?;
/// autocast::deep_stack(move || drop(graph));
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn deep_stack<R>(f: impl FnOnce() -> R) -> R {
    let halves = std::iter::successors(Some(STACK_BYTES), |bytes| Some(bytes / 2));
    match halves.take_while(|&bytes| bytes >= LEAST_STACK_BYTES).find(|&bytes| is_to_be_had(bytes)) {
        Some(bytes) => stacker::grow(bytes, f),
        None => f(),
    }
}

/// Whether a mapping of `bytes`, and of what the stack's guard pages and bookkeeping may take, succeeds: `stacker` panics
/// where its own does not. The pages are never touched, so they cost no memory.
fn is_to_be_had(bytes: usize) -> bool {
    memmap2::MmapMut::map_anon(bytes + LEAST_STACK_BYTES).is_ok()
}
