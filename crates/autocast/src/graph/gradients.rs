//! The gradients that have come so far on a walk, and whose turn is next.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{Layout, Tensor, TensorId};

use super::held::Held;
use super::node::{Input, Node};
use super::{foreign, view};
use crate::{Error, Result};

/// Whether candle differentiates it.
pub(super) fn is_foreign(input: &Input) -> bool {
    matches!(input, Input::Foreign(_))
}

/// Whose turn it is.
pub(super) enum Turn {
    Node(Arc<Node>, Held),
    /// Results of candle's ops with their gradients, which end at the same newest node and so have one walk of candle's.
    Foreign(Vec<(Tensor, Tensor)>),
}

impl Turn {
    pub(super) fn recurses(&self) -> bool {
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
    pub(super) const LAST: Self = Self(0, Kind::Node);

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
    pub(super) todo: BTreeMap<Place, Turn>,
    pub(super) variables: GradStore,
    /// Those whose gradient nobody else holds.
    own_variables: HashSet<TensorId>,
}

impl Gradients {
    /// Adds to an input's gradient.
    pub(super) fn give(&mut self, input: &Input, grad: Tensor) -> Result<()> {
        match input {
            Input::Constant => Ok(()),
            Input::Variable(variable) => self.give_variable(variable, grad),
            Input::Value(node) => self.give_node(node.clone(), Held::Shared(grad)),
            Input::View(node, layout) => self.give_view(node, layout, &grad),
            Input::Foreign(result) => self.give_foreign(result, grad),
        }
    }

    pub(super) fn give_variable(&mut self, variable: &Tensor, grad: Tensor) -> Result<()> {
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

    pub(super) fn give_node(&mut self, node: Arc<Node>, grad: Held) -> Result<()> {
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
