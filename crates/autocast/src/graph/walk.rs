//! The walk: from a loss to the gradients of variables, node by node, newest first.

use std::sync::Arc;

use candle_core::Tensor;
use candle_core::backprop::GradStore;

use super::finals::{Finals, OnFinal};
use super::gradients::{Gradients, Place, Turn, is_foreign};
use super::held::Held;
use super::node::{Backward, Node};
use super::record::source;
use super::stack::deep_stack;
use super::{anomaly, foreign};
use crate::{Error, Result};

/// The gradients of the variables behind `loss`, as constants. What nobody else holds of the graph is released on the way.
pub(crate) fn walk(loss: Tensor, on_final: Option<OnFinal<'_>>) -> Result<GradStore> {
    let seed = loss.ones_like()?;
    let from = source(&loss);
    drop(loss);
    let stack = if on_final.is_some() || is_foreign(&from) { Stack::Deep } else { Stack::Own };
    let start = move || -> Result<Walk<'_>> {
        let finals = on_final.map(|tell| Finals::behind(&from, tell));
        let mut walk = Walk { gradients: Gradients::default(), finals };
        walk.gradients.give(&from, seed)?;
        drop(from);
        walk.run(stack)?;
        Ok(walk)
    };
    let mut walk = if stack == Stack::Deep { deep_stack(start)? } else { start()? };
    if !walk.gradients.todo.is_empty() {
        deep_stack(|| walk.run(Stack::Deep))?;
    }
    Ok(walk.gradients.variables)
}

struct Walk<'a> {
    gradients: Gradients,
    finals: Option<Finals<'a>>,
}

/// What candle's walks over its ops, which recurse, have for it.
#[derive(Clone, Copy, PartialEq)]
enum Stack {
    Own,
    Deep,
}

impl Walk<'_> {
    /// Goes on to the end; on the thread's own stack, to the first turn that has to do with candle's ops.
    fn run(&mut self, stack: Stack) -> Result<()> {
        while let Some(next) = self.gradients.todo.last_entry() {
            if stack == Stack::Own && next.get().recurses() {
                return Ok(());
            }
            let (place, turn) = next.remove_entry();
            match turn {
                Turn::Node(node, grad) => step(&node, grad.into_tensor(), &mut self.gradients)?,
                Turn::Foreign(results) => foreign_step(results, &mut self.gradients)?,
            }
            if let Some(finals) = &mut self.finals {
                finals.passed(place, &self.gradients.variables);
            }
        }
        if let Some(finals) = &mut self.finals {
            finals.passed(Place::LAST, &self.gradients.variables);
        }
        Ok(())
    }
}

fn step(node: &Arc<Node>, grad: Tensor, gradients: &mut Gradients) -> Result<()> {
    let grad = grad.contiguous()?;
    let mut cx = Backward::new(node, &grad, gradients);
    let grads = node.op().backward(&mut cx)?;
    if grads.len() != node.inputs().len() || cx.lost(&grads) {
        let expected =
            format!("one for each of {} inputs, and what was taken with them", node.inputs().len());
        return Err(Error::argument(node.name(), "its gradients", grads.len(), expected));
    }
    anomaly::check_gradients(node, &grad, &grads)?;
    drop(grad);
    for (input, grad) in node.inputs().iter().zip(grads) {
        if let Some(grad) = grad {
            gradients.give(input, grad.detach())?;
        }
    }
    Ok(())
}

/// Hands the results to candle.
fn foreign_step(results: Vec<(Tensor, Tensor)>, gradients: &mut Gradients) -> Result<()> {
    let (variables, arrivals) = foreign::differentiate(&results)?;
    let grads = variables.iter().map(|(_, grad)| grad).chain(arrivals.iter().map(|(_, grad)| grad));
    anomaly::check_foreign(&results, grads)?;
    // Before the nodes have their turns, so that these hold the graph alone.
    drop(results);
    for (variable, grad) in variables {
        gradients.give_variable(&variable, grad)?;
    }
    for (node, grad) in arrivals {
        gradients.give_node(node, Held::Shared(grad))?;
    }
    Ok(())
}
