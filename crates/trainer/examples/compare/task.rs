//! What the models learn: the generated sums or the user's text, behind one face.

use std::path::Path;

use candle_core::Tensor;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::addition::{self, Addition};
use crate::text::{self, Text, TextError};

/// Token inputs and targets, both `(rows, context)`; a target of [`IGNORE`] asks for nothing.
pub(crate) type Example = (Tensor, Tensor);

/// The target that the loss leaves out.
pub(crate) const IGNORE: i64 = -100;

const HELD_OUT_BATCHES: usize = 16;

/// A task and the seed of its batches.
pub(crate) struct Task {
    kind: Kind,
    seed: u64,
    /// Of a step, at most.
    tokens: usize,
}

enum Kind {
    Addition(Addition),
    Text(Text),
}

impl Task {
    pub(crate) fn new(data: Option<&Path>, seed: u64, tokens: usize) -> Result<Self, TextError> {
        let kind = match data {
            Some(path) => Kind::Text(Text::read(path)?),
            None => Kind::Addition(Addition::new(seed)),
        };
        Ok(Self { kind, seed, tokens })
    }

    pub(crate) fn describe(&self) -> &'static str {
        match self.kind {
            Kind::Addition(_) => "two-digit sums, answers written last digit first",
            Kind::Text(_) => "the bytes of your text",
        }
    }

    pub(crate) fn context(&self) -> usize {
        match self.kind {
            Kind::Addition(_) => addition::CONTEXT,
            Kind::Text(_) => text::CONTEXT,
        }
    }

    pub(crate) fn vocabulary(&self) -> usize {
        match self.kind {
            Kind::Addition(_) => addition::VOCABULARY,
            Kind::Text(_) => text::VOCABULARY,
        }
    }

    /// Whether a held-out row has one right answer, so that exact matches can be counted.
    pub(crate) fn has_answers(&self) -> bool {
        matches!(self.kind, Kind::Addition(_))
    }

    pub(crate) fn tokens_per_step(&self) -> usize {
        self.rows() * self.context()
    }

    /// The batches of one run: the same for every precision.
    pub(crate) fn training_batches(&self, steps: usize) -> candle_core::Result<Vec<Example>> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        (0..steps)
            .map(|_| match &self.kind {
                Kind::Addition(sums) => sums.training_batch(self.rows(), &mut rng),
                Kind::Text(text) => text.training_batch(self.rows(), &mut rng),
            })
            .collect()
    }

    pub(crate) fn held_out_batches(&self) -> candle_core::Result<Vec<Example>> {
        match &self.kind {
            Kind::Addition(sums) => sums.held_out_batches(self.rows()),
            Kind::Text(text) => text.held_out_batches(self.rows(), HELD_OUT_BATCHES),
        }
    }

    fn rows(&self) -> usize {
        self.tokens / self.context()
    }
}
