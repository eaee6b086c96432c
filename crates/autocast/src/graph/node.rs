//! A node: an op, what it saved, and where its inputs come from. All of it can be read.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Layout, Shape, Tensor};

use super::gradients::Gradients;
use crate::{Error, Result};

/// A differentiable function as the graph keeps it: its name, its attributes, and what its backward needs.
///
/// What it saves are the fields of the type, detached from the graph: a tensor in a graph would keep that graph alive.
pub trait Op: Send + Sync + 'static {
    /// The op table's key, which also names the op in errors.
    fn name(&self) -> &'static str;

    /// What decides the value beside the inputs.
    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        Vec::new()
    }

    /// Whether the backward needs the [value](Backward::value), which then stays in memory until then.
    fn keeps_value(&self) -> bool {
        false
    }

    /// Whether backward reads a gradient of fewer bits than the value, which is its numbers all the same. Others get it widened.
    fn reads_narrow(&self) -> bool {
        false
    }

    /// One gradient per input, in its shape and dtype, or in a narrower one that holds the same numbers. One that is not [wanted](Backward::wanted) may be `None`; one that is
    /// wanted and `None` says that nothing flows there.
    ///
    /// # Errors
    ///
    /// Whatever keeps the op from computing one.
    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>>;
}

/// A number or a word that an op was called with.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Attribute {
    /// A count, a dimension, a seed.
    Integer(i64),
    /// A factor, a bound, a probability.
    Number(f64),
    /// Sizes or dimensions.
    Integers(Vec<i64>),
    /// A choice by name.
    Word(&'static str),
}

impl From<f64> for Attribute {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<usize> for Attribute {
    fn from(count: usize) -> Self {
        Self::Integer(count as i64)
    }
}

impl From<&[usize]> for Attribute {
    fn from(counts: &[usize]) -> Self {
        Self::Integers(counts.iter().map(|&count| count as i64).collect())
    }
}

/// Where an input of a node comes from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Input {
    /// From outside of every graph: it gets no gradient.
    Constant,
    /// A variable.
    Variable(Tensor),
    /// The value of a node.
    Value(Arc<Node>),
    /// A view of the value of a node: its elements lie in the value's as the layout says.
    View(Arc<Node>, Layout),
    /// A view of a variable, or the result of candle's own ops: its graph is candle's.
    Foreign(Tensor),
}

/// An op in the graph, and its place there.
pub struct Node {
    /// Nodes that were created later have higher numbers; inputs come before.
    number: u64,
    op: Box<dyn Op>,
    inputs: Vec<Input>,
    shape: Shape,
    dtype: DType,
    /// Detached, if the op keeps it.
    value: OnceLock<Tensor>,
}

impl Node {
    pub(super) fn new(op: Box<dyn Op>, inputs: Vec<Input>, shape: Shape, dtype: DType) -> Arc<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { number, op, inputs, shape, dtype, value: OnceLock::new() })
    }

    /// Keeps the value that the node was made for, if its op wants it.
    pub(super) fn keep(&self, value: &Tensor) {
        if self.op.keeps_value() {
            let _ = self.value.set(value.detach());
        }
    }

    /// The op's name.
    pub fn name(&self) -> &'static str {
        self.op.name()
    }

    /// The op's attributes.
    pub fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        self.op.attributes()
    }

    /// The op's inputs, in its order.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// The shape of its value.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The dtype of its value.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn op(&self) -> &dyn Op {
        &*self.op
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{} {:?} {:?}", self.name(), self.number, self.shape.dims(), self.dtype)
    }
}

thread_local! {
    /// What waits for its release while another node is being released on this thread.
    static RELEASED: RefCell<Option<Vec<Input>>> = const { RefCell::new(None) };
}

impl Drop for Node {
    /// Gives the inputs to a list instead of releasing them one inside the other, which takes a stack frame for each of a
    /// million chained ops.
    fn drop(&mut self) {
        let inputs = std::mem::take(&mut self.inputs);
        let outermost = RELEASED.try_with(|released| {
            let mut released = released.borrow_mut();
            match &mut *released {
                Some(waiting) => {
                    waiting.extend(inputs);
                    false
                }
                none => {
                    *none = Some(inputs);
                    true
                }
            }
        });
        // On a thread that has ended, the inputs are gone with the closure.
        if outermost == Ok(true) {
            while let Some(next) = RELEASED.with_borrow_mut(|waiting| waiting.as_mut().and_then(Vec::pop)) {
                drop(next);
            }
            RELEASED.set(None);
        }
    }
}

/// What a node's backward is given.
pub struct Backward<'a> {
    grad: &'a Tensor,
    node: &'a Node,
    gradients: &'a mut Gradients,
    /// Which inputs' gradients the op took over.
    taken: Vec<bool>,
}

impl<'a> Backward<'a> {
    pub(super) fn new(node: &'a Node, grad: &'a Tensor, gradients: &'a mut Gradients) -> Self {
        Self { grad, node, gradients, taken: vec![false; node.inputs.len()] }
    }

    /// The gradient of the value: contiguous, in its shape and dtype (or narrower, where the op [reads](Op::reads_narrow) that),
    /// off the graph.
    pub fn grad(&self) -> &'a Tensor {
        self.grad
    }

    /// The op's value, off the graph, if the op [keeps](Op::keeps_value) it.
    pub fn value(&self) -> Option<&'a Tensor> {
        self.node.value.get()
    }

    /// How many inputs there are.
    pub fn inputs(&self) -> usize {
        self.node.inputs.len()
    }

    /// Whether an input's gradient goes anywhere.
    pub fn wanted(&self, input: usize) -> bool {
        !matches!(self.node.inputs.get(input), None | Some(Input::Constant))
    }

    /// Hands over the gradient that an input has so far, for an op that adds to it while it computes its own: what the op then
    /// returns for that input counts as their sum. `None` where there is none yet, or the input is a view.
    ///
    /// It is of the input's dtype. Others may hold it too: it is to be read only.
    ///
    /// # Errors
    ///
    /// Where the device fails.
    pub fn take(&mut self, input: usize) -> Result<Option<Tensor>> {
        let Some(from) = self.node.inputs.get(input) else { return Ok(None) };
        let taken = self.gradients.take(from)?;
        self.taken[input] |= taken.is_some();
        Ok(taken)
    }

    /// The views that these inputs are, if they are views of one and the same value.
    pub fn views_of_one<const N: usize>(&self, inputs: [usize; N]) -> Option<[&'a Layout; N]> {
        let views: Vec<(&Arc<Node>, &'a Layout)> = inputs
            .iter()
            .filter_map(|&input| match self.node.inputs.get(input) {
                Some(Input::View(node, layout)) => Some((node, layout)),
                _ => None,
            })
            .collect();
        let of_one = views.windows(2).all(|pair| pair[0].0.number == pair[1].0.number);
        let layouts: Vec<&'a Layout> = views.into_iter().map(|(_, layout)| layout).collect();
        layouts.try_into().ok().filter(|_| of_one)
    }

    /// Adds to the gradient of the whole value that an input is a view of, for an op that computes that at once; the input
    /// itself then gets none. In the value's number of elements, in its order.
    ///
    /// # Errors
    ///
    /// An input that is no view of a value, or another number of elements.
    pub fn give_behind(&mut self, input: usize, grad: Tensor) -> Result<()> {
        let Some(Input::View(node, _)) = self.node.inputs.get(input) else {
            let got = format!("input {input}");
            return Err(Error::argument(
                self.node.name(),
                "what a gradient is behind",
                got,
                "a view of a value",
            ));
        };
        self.gradients.give_whole(node, grad.detach().reshape(node.shape())?)
    }

    /// Whether a gradient was taken and nothing came back for it, which would lose it.
    pub(super) fn lost(&self, grads: &[Option<Tensor>]) -> bool {
        self.taken.iter().zip(grads).any(|(&taken, grad)| taken && grad.is_none())
    }
}
