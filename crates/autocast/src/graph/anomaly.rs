//! Looking for the first NaN: in the values that ops record, and in the gradients that a walk gives on. Infinities are no
//! anomaly: masks are made of them, and an overflow of a scaled loss is how its scale is found.

use std::cell::RefCell;
use std::fmt;

use candle_core::{DType, Tensor, TensorId};

use super::node::{Input, Node};
use super::{foreign, record};
use crate::{Error, Result};

/// Where the first NaN of a forward or backward pass came up.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Anomaly {
    /// The op.
    pub op: String,
    /// In its value, or in a gradient of its inputs.
    pub pass: Pass,
    /// Which of its inputs had a NaN already, which then came from no op of this crate: from the data, a parameter, or an op of
    /// candle's own.
    pub input: Option<usize>,
    /// The parameters that are the fewest ops before it.
    pub parameters: Vec<TensorId>,
}

/// The direction in which a graph is gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// From inputs to the loss.
    Forward,
    /// From the loss to gradients.
    Backward,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pass = if self.pass == Pass::Forward { "forward" } else { "backward" };
        write!(f, "{} gave the first NaN of the {pass} pass", self.op)?;
        match self.input {
            Some(input) => write!(
                f,
                ": it came in with input {input}, from the data, a parameter or an op of candle's own"
            ),
            None => Ok(()),
        }
    }
}

/// Whether this thread looks, and what it found.
#[derive(Default)]
enum State {
    #[default]
    Off,
    Looking,
    Found(Anomaly),
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

fn looking() -> bool {
    STATE.with_borrow(|state| matches!(state, State::Looking))
}

/// Runs `f` with every op on this thread looking for NaN in its value, and every walk in the gradients. The first is
/// [`Error::Anomaly`] of its op, and comes beside the result of `f` as well, since a layer's error is candle's. Each op waits for
/// its device.
///
/// ```
/// use autocast::{detect_anomaly, ops};
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::new(&[1f32, -1.], &Device::Cpu)?;
/// let (result, found) = detect_anomaly(|| ops::log(&x));
/// assert!(result.is_err());
/// assert_eq!(found.map(|anomaly| anomaly.op), Some("log".to_string()));
/// # Ok::<(), autocast::Error>(())
/// ```
pub fn detect_anomaly<R>(f: impl FnOnce() -> R) -> (R, Option<Anomaly>) {
    /// Puts back what held before, also where `f` panics.
    struct Restore(State);
    impl Drop for Restore {
        fn drop(&mut self) {
            STATE.set(std::mem::take(&mut self.0));
        }
    }
    let _restore = Restore(STATE.replace(State::Looking));
    let result = f();
    match STATE.take() {
        State::Found(anomaly) => (result, Some(anomaly)),
        State::Off | State::Looking => (result, None),
    }
}

fn found(op: &str, pass: Pass, input: Option<usize>, sources: Vec<Input>) -> Error {
    let anomaly = Anomaly { op: op.to_string(), pass, input, parameters: nearest(sources) };
    STATE.set(State::Found(anomaly.clone()));
    Error::Anomaly(anomaly)
}

/// An error where `value` has a NaN.
pub(super) fn check_value(op: &'static str, inputs: &[&Tensor], value: &Tensor) -> Result<()> {
    if !looking() || !has_nan(value)? {
        return Ok(());
    }
    let came_in = inputs.iter().map(|input| has_nan(input)).collect::<Result<Vec<_>>>()?;
    let sources = inputs.iter().map(|input| record::source(input)).collect();
    Err(found(op, Pass::Forward, came_in.iter().position(|&nan| nan), sources))
}

/// An error where one of a node's gradients has a NaN that did not come with the gradient of its value.
pub(super) fn check_gradients(node: &Node, grad: &Tensor, grads: &[Option<Tensor>]) -> Result<()> {
    if !looking() || has_nan(grad)? {
        return Ok(());
    }
    for grad in grads.iter().flatten() {
        if has_nan(grad)? {
            return Err(found(node.name(), Pass::Backward, None, node.inputs().to_vec()));
        }
    }
    Ok(())
}

/// An error where candle's own ops made a NaN of `results`' gradients.
pub(super) fn check_foreign<'a>(
    results: &[(Tensor, Tensor)],
    mut grads: impl Iterator<Item = &'a Tensor>,
) -> Result<()> {
    if !looking() || results.iter().map(|(_, grad)| has_nan(grad)).any(|nan| matches!(nan, Ok(true))) {
        return Ok(());
    }
    match grads.any(|grad| matches!(has_nan(grad), Ok(true))) {
        true => {
            let sources = results.iter().map(|(of, _)| Input::Foreign(of.clone())).collect();
            Err(found("one of candle's own ops", Pass::Backward, None, sources))
        }
        false => Ok(()),
    }
}

fn has_nan(tensor: &Tensor) -> Result<bool> {
    if !tensor.dtype().is_float() || tensor.elem_count() == 0 {
        return Ok(false);
    }
    let tensor = tensor.detach();
    Ok(tensor.ne(&tensor)?.to_dtype(DType::U32)?.max_all()?.to_scalar::<u32>()? > 0)
}

/// How far from an op its parameters are looked for.
const FAR: usize = 16;

/// The variables that are the fewest ops behind these inputs.
fn nearest(mut level: Vec<Input>) -> Vec<TensorId> {
    for _ in 0..FAR {
        let (mut found, mut next) = (Vec::new(), Vec::new());
        for input in level {
            match input {
                Input::Constant => {}
                Input::Variable(variable) => found.push(variable.id()),
                Input::Value(node) | Input::View(node, _) => next.extend(node.inputs().iter().cloned()),
                Input::Foreign(result) => {
                    let nodes = foreign::nodes(&result);
                    // Where candle's graph ends at nodes, its variables are stand-ins for them.
                    if nodes.is_empty() {
                        found.extend(foreign::variables(&result).iter().map(|variable| variable.id()));
                    }
                    next.extend(nodes.into_iter().map(Input::Value));
                }
            }
        }
        if !found.is_empty() {
            found.dedup();
            return found;
        }
        level = next;
    }
    Vec::new()
}
