//! From a loss to gradients.

use candle_core::backprop::GradStore;
use candle_core::{Tensor, TensorId, Var};

use crate::graph::{self, Backward, OnFinal, Op, Width, record};
use crate::{Error, Result};

/// The gradients of `loss`, for graphs of any practical depth.
///
/// The loss is taken by value, so that its graph is released while the walk goes on, as far as nobody else holds it. Where
/// something does (logits kept for a metric), and candle's own ops are chained in it, release that in
/// [`deep_stack`](crate::deep_stack).
///
/// A gradient that this returns has no gradient itself: a loss that is made of gradients (a gradient penalty, a Hessian) is an
/// error here, which names the way out. For that each gradient is copied into a graph; [`constant_gradients`] does not.
/// [`detach`](Tensor::detach) a gradient that is kept from step to step.
///
/// Ops of this crate take no stack; candle's own, where such are in between, have 1 GiB for their recursion. In an optimized
/// build that is enough for three million chained ops. Where a process may not have that much address space, it has what
/// there is.
///
/// # Errors
///
/// Where an op or candle has no gradient for an op of the graph.
pub fn backward(loss: Tensor) -> Result<GradStore> {
    let mut grads = constant_gradients(loss)?;
    let ids: Vec<TensorId> = grads.get_ids().copied().collect();
    for id in ids {
        if let Some(grad) = grads.get_id(id) {
            let stand_in = Var::zeros((), grad.dtype(), grad.device())?;
            let marked = record(Gradient, &[stand_in.as_tensor()], grad.clone())?;
            grads.insert_id(id, marked);
        }
    }
    Ok(grads)
}

/// [`backward`], whose gradients are constants: what is computed from them is a constant too, to whatever loss it is added.
///
/// # Errors
///
/// As [`backward`].
pub fn constant_gradients(loss: Tensor) -> Result<GradStore> {
    graph::walk(loss, Width::Variable, None)
}

/// [`constant_gradients`], of which those that an f32 parameter gets from its cast to 16 bits stay in 16 bits, the same numbers
/// in half the memory: for an optimizer that takes them so, as `optim`'s do.
///
/// # Errors
///
/// As [`backward`].
pub fn narrow_gradients(loss: Tensor) -> Result<GradStore> {
    graph::walk(loss, Width::AsItCame, None)
}

/// [`constant_gradients`], which tells `on_final` of each variable and its gradient as soon as nothing will be added to that
/// any more: to send it to other processes, or to take a step with it, while the walk goes on.
///
/// # Errors
///
/// As [`backward`].
pub fn backward_with(loss: Tensor, on_final: OnFinal<'_>) -> Result<GradStore> {
    graph::walk(loss, Width::Variable, Some(on_final))
}

/// What marks a gradient.
struct Gradient;

impl Op for Gradient {
    fn name(&self) -> &'static str {
        "gradient"
    }

    fn backward(&self, _: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Err(Error::argument(
            "backward",
            "the loss",
            "made of a gradient, which has none itself",
            "a loss of values alone: detach the gradient, or take constant_gradients, to have it as a constant",
        ))
    }
}
