//! Making a node: where its inputs come from, and its value in candle's graph.

use candle_core::{Shape, Storage, Tensor, op::BackpropOp};

use super::node::{Input, Node, Op};
use super::{anomaly, border, foreign, registry};
use crate::Result;

/// A value on its way into the graph.
#[derive(Debug)]
pub struct Value(Content);

#[derive(Debug)]
enum Content {
    Storage(Storage, Shape),
    Shared(Tensor),
    Fresh(Tensor),
}

impl Value {
    /// All of a storage's elements in the order of `shape`. They are moved in.
    pub fn storage(storage: Storage, shape: impl Into<Shape>) -> Self {
        Self(Content::Storage(storage, shape.into()))
    }

    /// A tensor that was computed for this value, and over whose storage nobody holds another but perhaps an input of the op,
    /// for whom it is copied. Otherwise it is moved in.
    pub(crate) fn fresh(value: Tensor) -> Self {
        Self(Content::Fresh(value))
    }

    fn in_graph(self, inputs: &[&Tensor]) -> Result<(Storage, Shape)> {
        let value = match self.0 {
            Content::Storage(storage, shape) => return Ok((storage, shape)),
            Content::Shared(value) => value.force_contiguous()?,
            Content::Fresh(value) => {
                let address = registry::address(&value);
                let shared = inputs.iter().any(|input| registry::address(input) == address);
                if shared { value.force_contiguous()? } else { value }
            }
        };
        let shape = value.shape().clone();
        Ok((backends::into_storage(value)?, shape))
    }

    fn off_graph(self) -> Tensor {
        match self.0 {
            Content::Storage(storage, shape) => {
                Tensor::from_storage(storage, shape, BackpropOp::none(), false)
            }
            Content::Shared(value) | Content::Fresh(value) => value.detach(),
        }
    }
}

impl From<Tensor> for Value {
    /// A tensor over whose storage others may hold one too: it is copied where it is recorded.
    fn from(value: Tensor) -> Self {
        Self(Content::Shared(value))
    }
}

/// `value` as the result of `op` over `inputs`, with a gradient for each of them that is tracked.
///
/// Where none is, nothing is recorded, and `op` and what it saved are dropped.
///
/// # Errors
///
/// A value that is on another device than its inputs, and where that device fails.
pub fn record(op: impl Op, inputs: &[&Tensor], value: impl Into<Value>) -> Result<Tensor> {
    let value = value.into();
    if !inputs.iter().any(|input| input.track_op()) {
        let value = value.off_graph();
        anomaly::check_value(op.name(), inputs, &value)?;
        return Ok(value);
    }
    let name = op.name();
    let (storage, shape) = value.in_graph(inputs)?;
    let sources = inputs.iter().map(|input| source(input)).collect();
    let node = Node::new(Box::new(op), sources, shape.clone(), storage.dtype());
    let shown = border::show(&node, storage, &shape)?;
    node.keep(&shown);
    anomaly::check_value(name, inputs, &shown)?;
    Ok(shown)
}

/// Where a tensor comes from.
pub(super) fn source(tensor: &Tensor) -> Input {
    if !tensor.track_op() {
        return Input::Constant;
    }
    if tensor.is_variable() {
        return Input::Variable(tensor.clone());
    }
    if let Some(node) = registry::node(tensor.id()) {
        return Input::Value(node);
    }
    match registry::owner(tensor) {
        Some((id, node)) if foreign::is_view_of(tensor, id) => Input::View(node, tensor.layout().clone()),
        _ => Input::Foreign(tensor.clone()),
    }
}
