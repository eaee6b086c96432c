//! The walk: from a loss to the gradients of variables, node by node, newest first.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{Layout, Tensor, TensorId};

use super::finals::{Finals, OnFinal};
use super::held::Held;
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
        gradients.give_node(node, Held::Shared(grad))?;
    }
    Ok(())
}

/// Whose turn it is.
enum Turn {
    Node(Arc<Node>, Held),
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
    /// Those whose gradient nobody else holds.
    own_variables: HashSet<TensorId>,
}

impl Gradients {
    /// Adds to an input's gradient.
    fn give(&mut self, input: &Input, grad: Tensor) -> Result<()> {
        match input {
            Input::Constant => Ok(()),
            Input::Variable(variable) => self.give_variable(variable, grad),
            Input::Value(node) => self.give_node(node.clone(), Held::Shared(grad)),
            Input::View(node, layout) => self.give_view(node, layout, &grad),
            Input::Foreign(result) => self.give_foreign(result, grad),
        }
    }

    fn give_variable(&mut self, variable: &Tensor, grad: Tensor) -> Result<()> {
        let sum = match self.variables.remove(variable) {
            Some(before) => {
                let own = self.own_variables.contains(&variable.id());
                self.own_variables.insert(variable.id());
                if own { Held::Own(before) } else { Held::Shared(before) }.plus(&grad)?.into_tensor()
            }
            None => grad,
        };
        self.variables.insert(variable, sum);
        Ok(())
    }

    fn give_node(&mut self, node: Arc<Node>, grad: Held) -> Result<()> {
        if grad.tensor().shape() != node.shape() {
            let expected = format!("{:?} like the value", node.shape().dims());
            return Err(Error::shape(node.name(), "its gradient", grad.tensor().dims(), expected));
        }
        let sum = match self.take_of_node(&node) {
            Some(before) => before.plus(grad.tensor())?,
            None => grad,
        };
        self.todo.insert(Place::of_node(&node), Turn::Node(node, sum));
        Ok(())
    }

    fn give_view(&mut self, node: &Arc<Node>, layout: &Layout, grad: &Tensor) -> Result<()> {
        if let Some(whole) = view::whole(grad, layout, node.shape())? {
            return self.give_node(node.clone(), Held::Shared(whole));
        }
        let sum = match self.take_of_node(node) {
            Some(before) => before.into_own()?,
            None => Tensor::zeros(node.shape(), grad.dtype(), grad.device())?,
        };
        view::add_behind(&sum, grad, layout)?;
        self.give_node(node.clone(), Held::Own(sum))
    }

    fn give_foreign(&mut self, result: &Tensor, grad: Tensor) -> Result<()> {
        if let Some(variable) = foreign::viewed_variable(result) {
            let behind = match view::whole(&grad, result.layout(), variable.shape())? {
                Some(whole) => whole,
                None => {
                    let part = Tensor::zeros(variable.shape(), grad.dtype(), grad.device())?;
                    view::add_behind(&part, &grad, result.layout())?;
                    part
                }
            };
            return self.give_variable(&variable, behind);
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

    fn take_of_node(&mut self, node: &Node) -> Option<Held> {
        match self.todo.remove(&Place::of_node(node)) {
            Some(Turn::Node(_, grad)) => Some(grad),
            _ => None,
        }
    }

    /// Adds to the gradient of a value.
    pub(super) fn give_whole(&mut self, node: &Arc<Node>, grad: Tensor) -> Result<()> {
        self.give_node(node.clone(), Held::Shared(grad))
    }

    /// The gradient that an input has so far, for an op that changes it: a copy of one that others may hold.
    pub(super) fn take(&mut self, input: &Input) -> Result<Option<Tensor>> {
        let held = match input {
            Input::Value(node) => self.take_of_node(node),
            Input::Variable(variable) => {
                let own = self.own_variables.remove(&variable.id());
                let grad = self.variables.remove(variable);
                grad.map(|grad| if own { Held::Own(grad) } else { Held::Shared(grad) })
            }
            _ => None,
        };
        held.map(Held::into_own).transpose()
    }
}
