//! A state as a safetensors file: tensors by their role and name, and the rest as JSON in the header's metadata.

use std::collections::{BTreeMap, HashMap};

use candle_core::Tensor;
use safetensors::tensor::serialize;
use serde::{Deserialize, Serialize};

use crate::{Error, Position, Precision, Result, TrainingState};

/// The metadata's key of what the file is, and what it says there.
pub(super) const FORMAT: (&str, &str) = ("format", "training-state-1");

/// The metadata's key of everything that is no tensor.
pub(super) const ABOUT: &str = "about";

/// What a tensor is, as the first part of its name.
pub(super) const PARAMETER: &str = "parameter.";
pub(super) const OPTIMIZER: &str = "optimizer.";
pub(super) const GRADIENT: &str = "gradient.";
pub(super) const BUFFER: &str = "buffer.";

/// What is no tensor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct About {
    step: usize,
    epoch: usize,
    batch: usize,
    batches: usize,
    precision: Precision,
    seed: u64,
    /// Their names. Their tensors have their places in this list.
    pub(super) optimizers: Vec<String>,
    pub(super) scaler: grad_scaler::StateDict,
    pub(super) callbacks: serde_json::Map<String, serde_json::Value>,
    /// Bits of the loss, and samples.
    accumulated: Vec<(u64, usize)>,
    accumulated_batches: usize,
}

impl About {
    fn of(state: &TrainingState) -> Self {
        let Position { step, epoch, batch } = state.position;
        Self {
            step,
            epoch,
            batch,
            batches: state.batches,
            precision: state.precision,
            seed: state.seed,
            optimizers: state.optimizers.keys().cloned().collect(),
            scaler: state.scaler.clone(),
            callbacks: state.callbacks.clone(),
            accumulated: state
                .accumulated
                .losses
                .iter()
                .map(|(loss, count)| (loss.to_bits(), *count))
                .collect(),
            accumulated_batches: state.accumulated.batches,
        }
    }

    pub(super) fn position(&self) -> Position {
        Position { step: self.step, epoch: self.epoch, batch: self.batch }
    }

    /// A state without its tensors.
    pub(super) fn into_state(self) -> TrainingState {
        let mut state = TrainingState {
            position: self.position(),
            batches: self.batches,
            precision: self.precision,
            seed: self.seed,
            scaler: self.scaler,
            callbacks: self.callbacks,
            ..TrainingState::default()
        };
        let losses = self.accumulated.into_iter().map(|(bits, count)| (f64::from_bits(bits), count));
        state.accumulated.losses = losses.collect();
        state.accumulated.batches = self.accumulated_batches;
        state
    }
}

/// The whole file.
pub(super) fn bytes(state: &TrainingState) -> Result<Vec<u8>> {
    let other = |error: serde_json::Error| Error::Other(error.into());
    let about = serde_json::to_string(&About::of(state)).map_err(other)?;
    let metadata = [FORMAT, (ABOUT, &about)].map(|(key, value)| (key.to_string(), value.to_string()));
    let mut tensors: Vec<(String, &Tensor)> = Vec::new();
    named(&mut tensors, PARAMETER, &state.parameters);
    named(&mut tensors, BUFFER, &state.accumulated.buffers);
    by_place(&mut tensors, OPTIMIZER, &state.optimizers, &state.optimizers);
    by_place(&mut tensors, GRADIENT, &state.accumulated.gradients, &state.optimizers);
    serialize(tensors, Some(HashMap::from(metadata))).map_err(|error| Error::Other(error.into()))
}

fn named<'a>(into: &mut Vec<(String, &'a Tensor)>, role: &str, entries: &'a HashMap<String, Tensor>) {
    into.extend(entries.iter().map(|(name, tensor)| (format!("{role}{name}"), tensor)));
}

type ByOptimizer = BTreeMap<String, HashMap<String, Tensor>>;

fn by_place<'a>(
    into: &mut Vec<(String, &'a Tensor)>,
    role: &str,
    entries: &'a ByOptimizer,
    optimizers: &ByOptimizer,
) {
    for (place, name) in optimizers.keys().enumerate() {
        if let Some(entries) = entries.get(name) {
            named(into, &format!("{role}{place}."), entries);
        }
    }
}
