//! Dropout as a layer, with a mask of its own at every call.

use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{ModuleT, Result, Tensor};

use crate::ops::{DropoutSeed, dropout};
use crate::{Mode, mode};

/// Drops elements while training, and nothing in evaluation.
#[derive(Debug)]
pub struct Dropout {
    drop_p: f32,
    /// Which layer it is, where the layer was given a number.
    seed: Option<u64>,
    /// Which layer of this process it is.
    made: u64,
    calls: AtomicU64,
}

impl Dropout {
    /// Dropout of probability `drop_p`.
    ///
    /// Inside [`random::with_seed`](crate::random::with_seed), as in a trainer's step, its masks follow the run's seed, the
    /// step and the place of the call in it. Outside, its seed is how many were made before it in this process.
    pub fn new(drop_p: f32) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        Self { drop_p, seed: None, made: MADE.fetch_add(1, Ordering::Relaxed), calls: AtomicU64::new(0) }
    }

    /// Dropout of probability `drop_p` whose masks follow from `seed` and how often it was called, or inside
    /// [`random::with_seed`](crate::random::with_seed) from `seed` beside what all draws follow there.
    pub fn with_seed(drop_p: f32, seed: u64) -> Self {
        Self { drop_p, seed: Some(seed), made: 0, calls: AtomicU64::new(0) }
    }

    /// The probability with which an element is dropped.
    pub fn drop_p(&self) -> f32 {
        self.drop_p
    }

    /// [`dropout`](crate::ops::dropout) in [`Mode::Train`], and `x` itself in [`Mode::Evaluate`].
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn forward_by_mode(&self, x: &Tensor) -> Result<Tensor> {
        self.forward(x, mode() == Mode::Train)
    }

    /// [`dropout`](crate::ops::dropout) where `train`, whatever the mode.
    ///
    /// # Errors
    ///
    /// As [`dropout`](crate::ops::dropout); a probability outside `0..=1` is refused here.
    pub fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        match train {
            true => Ok(dropout(x, f64::from(self.drop_p), self.next_seed())?),
            false => Ok(x.clone()),
        }
    }

    fn next_seed(&self) -> DropoutSeed {
        if crate::random::is_seeded() {
            return DropoutSeed::from(self.seed.unwrap_or_default()).of_the_step();
        }
        let step = self.calls.fetch_add(1, Ordering::Relaxed);
        DropoutSeed { seed: self.seed.unwrap_or(self.made), step }
    }
}

impl ModuleT for Dropout {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.forward(x, train)
    }
}
