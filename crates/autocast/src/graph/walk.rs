//! The walk: from a loss to the gradients of variables, node by node, newest first.

use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{Layout, Tensor};

use super::finals::{Finals, OnFinal};
use super::node::{Backward, Input, Node};
use super::record::source;
use super::{foreign, view};
use crate::backward::deep_stack;
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
                Turn::Node(node, grad) => step(&node, grad, &mut self.gradients)?,
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

fn is_foreign(input: &Input) -> bool {
    matches!(input, Input::Foreign(_))
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
    // Before the nodes have their turns, so that these hold the graph alone.
    drop(results);
    for (variable, grad) in variables {
        gradients.give_variable(&variable, grad)?;
    }
    for (node, grad) in arrivals {
        gradients.give_node(node, grad)?;
    }
    Ok(())
}

/// Whose turn it is.
enum Turn {
    Node(Arc<Node>, Tensor),
    /// Results of candle's ops with their gradients, which end at the same newest node and so have one walk of candle's.
    Foreign(Vec<(Tensor, Tensor)>),
}

impl Turn {
    fn recurses(&self) -> bool {
        match self {
            Self::Node(node, _) => node.inputs().iter().any(is_foreign),
            Self::Foreign(_) => true,
        }
    }
}

/// When it is somebody's turn: the highest first, by the node's number. Results of candle's ops have theirs before the
/// newest node that they were made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u64, Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Node,
    Foreign,
}

impl Place {
    /// Before every turn, and after.
    pub(super) const FIRST: Self = Self(u64::MAX, Kind::Foreign);
    const LAST: Self = Self(0, Kind::Node);

    pub(super) fn of_node(node: &Node) -> Self {
        Self(node.number(), Kind::Node)
    }

    pub(super) fn of_result(result: &Tensor) -> Self {
        Self(foreign::newest_below(result), Kind::Foreign)
    }
}

/// The gradients that have come so far.
#[derive(Default)]
pub(super) struct Gradients {
    todo: BTreeMap<Place, Turn>,
    variables: GradStore,
}

impl Gradients {
    /// Adds to an input's gradient.
    fn give(&mut self, input: &Input, grad: Tensor) -> Result<()> {
        match input {
            Input::Constant => Ok(()),
            Input::Variable(variable) => self.give_variable(variable, grad),
            Input::Value(node) => self.give_node(node.clone(), grad),
            Input::View(node, layout) => self.give_view(node, layout, grad),
            Input::Foreign(result) => self.give_foreign(result, grad),
        }
    }

    fn give_variable(&mut self, variable: &Tensor, grad: Tensor) -> Result<()> {
        let sum = match self.variables.remove(variable) {
            Some(before) => (before + grad)?,
            None => grad,
        };
        self.variables.insert(variable, sum);
        Ok(())
    }

    fn give_node(&mut self, node: Arc<Node>, grad: Tensor) -> Result<()> {
        if grad.shape() != node.shape() {
            let expected = format!("a gradient of shape {:?}", node.shape().dims());
            return Err(Error::shape(node.name(), expected, grad.dims()));
        }
        match self.todo.entry(Place::of_node(&node)) {
            Entry::Vacant(entry) => {
                entry.insert(Turn::Node(node, grad));
            }
            Entry::Occupied(mut entry) => {
                if let Turn::Node(_, before) = entry.get_mut() {
                    *before = (&*before + grad)?;
                }
            }
        }
        Ok(())
    }

    fn give_view(&mut self, node: &Arc<Node>, layout: &Layout, grad: Tensor) -> Result<()> {
        match view::behind(&grad, layout, node.shape())? {
            Some(grad) => self.give_node(node.clone(), grad),
            None => Err(Error::shape(node.name(), "a view that shows each element once", layout.stride())),
        }
    }

    fn give_foreign(&mut self, result: &Tensor, grad: Tensor) -> Result<()> {
        if let Some(variable) = foreign::viewed_variable(result)
            && let Some(grad) = view::behind(&grad, result.layout(), variable.shape())?
        {
            return self.give_variable(&variable, grad);
        }
        let turn = self.todo.entry(Place::of_result(result));
        if let Turn::Foreign(results) = turn.or_insert_with(|| Turn::Foreign(Vec::new())) {
            match results.iter_mut().find(|(other, _)| other.id() == result.id()) {
                Some((_, before)) => *before = (&*before + grad)?,
                None => results.push((result.clone(), grad)),
            }
        }
        Ok(())
    }

    pub(super) fn take_of_node(&mut self, node: &Node) -> Option<Tensor> {
        match self.todo.remove(&Place::of_node(node)) {
            Some(Turn::Node(_, grad)) => Some(grad),
            _ => None,
        }
    }

    pub(super) fn take_of_variable(&mut self, variable: &Tensor) -> Option<Tensor> {
        self.variables.remove(variable)
    }
}
