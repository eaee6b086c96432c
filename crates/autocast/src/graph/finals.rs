//! When a variable's gradient is final: after the turn of the oldest op that uses it, since turns go from new to old.

use std::collections::{HashMap, HashSet};

use candle_core::backprop::GradStore;
use candle_core::{Tensor, TensorId};

use super::foreign;
use super::gradients::Place;
use super::node::Input;

/// Is told of each variable and its gradient, once nothing will be added to that any more.
pub type OnFinal<'a> = &'a mut dyn FnMut(&Tensor, &Tensor);

/// The variables whose gradients are not final.
pub(super) struct Finals<'a> {
    /// Each with the place of its last turn, the first to come at the end.
    left: Vec<(Place, Tensor)>,
    tell: OnFinal<'a>,
}

impl<'a> Finals<'a> {
    /// Of the variables behind `from`.
    pub(super) fn behind(from: &Input, tell: OnFinal<'a>) -> Self {
        let mut last: HashMap<TensorId, (Place, Tensor)> = HashMap::new();
        let mut used = |variable: &Tensor, at: Place| {
            let entry = last.entry(variable.id()).or_insert_with(|| (at, variable.clone()));
            entry.0 = entry.0.min(at);
        };
        let (mut nodes, mut results) = (HashSet::new(), HashSet::new());
        let mut waiting = vec![(Place::FIRST, from.clone())];
        while let Some((at, input)) = waiting.pop() {
            match input {
                Input::Constant => {}
                Input::Variable(variable) => used(&variable, at),
                Input::Value(node) | Input::View(node, _) => {
                    if nodes.insert(node.number()) {
                        let at = Place::of_node(&node);
                        waiting.extend(node.inputs().iter().map(|input| (at, input.clone())));
                    }
                }
                Input::Foreign(result) => match foreign::viewed_variable(&result) {
                    Some(variable) => used(&variable, at),
                    None if results.insert(result.id()) => {
                        let at = Place::of_result(&result);
                        foreign::variables(&result).iter().for_each(|variable| used(variable, at));
                        waiting
                            .extend(foreign::nodes(&result).into_iter().map(|node| (at, Input::Value(node))));
                    }
                    None => {}
                },
            }
        }
        let mut left: Vec<_> = last.into_values().collect();
        left.sort_by_key(|(place, _)| *place);
        Self { left, tell }
    }

    /// Tells of those whose last turn was the one at `place` or would have come before it.
    pub(super) fn passed(&mut self, place: Place, grads: &GradStore) {
        while let Some((_, variable)) = self.left.pop_if(|(last, _)| *last >= place) {
            if let Some(grad) = grads.get(&variable) {
                (self.tell)(&variable, grad);
            }
        }
    }
}
