//! The gradients that have come so far on a walk, and whose turn is next.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{Layout, Tensor, TensorId};

use super::held::Held;
use super::node::{Input, Node};
use super::{foreign, view};
use crate::dtypes::rounded;
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

/// The dtype of the gradients that a walk ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// The variable's.
    Variable,
    /// That in which the gradient came, where it is narrower.
    AsItCame,
}

/// The gradients that have come so far.
pub(super) struct Gradients {
    pub(super) todo: BTreeMap<Place, Turn>,
    pub(super) variables: GradStore,
    /// Those whose gradient nobody else holds.
    own_variables: HashSet<TensorId>,
    width: Width,
}

impl Gradients {
    pub(super) fn new(width: Width) -> Self {
        let (todo, variables) = (BTreeMap::new(), GradStore::default());
        Self { todo, variables, own_variables: HashSet::new(), width }
    }

    /// Adds to an input's gradient.
    pub(super) fn give(&mut self, input: &Input, grad: Tensor) -> Result<()> {
        match input {
            Input::Constant => Ok(()),
            Input::Variable(variable) => self.give_variable(variable, grad),
            Input::Value(node) => self.give_node(node.clone(), Held::Shared(grad)),
            Input::View(node, layout) => self.give_view(node, layout, &rounded(&grad, node.dtype())?),
            Input::Foreign(result) => {
                let grad = rounded(&grad, result.dtype())?;
                self.give_foreign(result, grad)
            }
        }
    }

    pub(super) fn give_variable(&mut self, variable: &Tensor, grad: Tensor) -> Result<()> {
        let grad = match self.width {
            Width::Variable => rounded(&grad, variable.dtype())?,
            Width::AsItCame => grad,
        };
        let sum = match self.variables.remove(variable) {
            Some(before) => {
                let own = self.own_variables.contains(&variable.id());
                self.own_variables.insert(variable.id());
                let before = if own { Held::Own(before) } else { Held::Shared(before) };
                before.plus(&grad, variable.dtype())?.into_tensor()
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
            Some(before) => before.plus(grad.tensor(), node.dtype())?,
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
            Some(before) => before.into_own(node.dtype())?,
            None => Tensor::zeros(node.shape(), node.dtype(), grad.device())?,
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

    /// The gradient that an input has so far, in the input's dtype.
    pub(super) fn take(&mut self, input: &Input) -> Result<Option<Tensor>> {
        let (grad, dtype) = match input {
            Input::Value(node) => (self.take_of_node(node).map(Held::into_tensor), node.dtype()),
            Input::Variable(variable) => {
                self.own_variables.remove(&variable.id());
                (self.variables.remove(variable), variable.dtype())
            }
            _ => return Ok(None),
        };
        grad.map(|grad| rounded(&grad, dtype)).transpose()
    }
}
