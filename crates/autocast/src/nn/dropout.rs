//! Dropout as a layer, with a mask of its own at every call.

use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{ModuleT, Tensor};

use crate::Result;
use crate::ops::{DropoutSeed, dropout};

/// Drops elements while training, and nothing in evaluation.
#[derive(Debug)]
pub struct Dropout {
    drop_p: f32,
    seed: u64,
    calls: AtomicU64,
}

impl Dropout {
    /// Dropout of probability `drop_p`. Its seed is how many were made before it in this process, so a program that
    /// builds its layers in one order draws the same masks each time it runs.
    pub fn new(drop_p: f32) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        Self::with_seed(drop_p, MADE.fetch_add(1, Ordering::Relaxed))
    }

    /// Dropout of probability `drop_p` whose masks follow from `seed`.
    pub fn with_seed(drop_p: f32, seed: u64) -> Self {
        Self { drop_p, seed, calls: AtomicU64::new(0) }
    }

    /// The probability with which an element is dropped.
    pub fn drop_p(&self) -> f32 {
        self.drop_p
    }

    /// [`dropout`](crate::ops::dropout) while training.
    ///
    /// # Errors
    ///
    /// As [`dropout`](crate::ops::dropout); a probability outside `0..=1` is refused here.
    pub fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        match train {
            true => {
                let step = self.calls.fetch_add(1, Ordering::Relaxed);
                dropout(x, f64::from(self.drop_p), DropoutSeed { seed: self.seed, step })
            }
            false => Ok(x.clone()),
        }
    }
}

impl ModuleT for Dropout {
    fn forward_t(&self, x: &Tensor, train: bool) -> candle_core::Result<Tensor> {
        Ok(self.forward(x, train)?)
    }
}
