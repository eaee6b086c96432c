//! What a scaler asks of an optimizer.

use crate::Result;
use candle_core::Var;
use candle_core::backprop::GradStore;
use std::sync::atomic::{AtomicU64, Ordering};

/// A variable and the name that messages, groups and saved states know it by.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// The name, unique within an optimizer.
    pub name: String,
    /// The variable.
    pub var: Var,
}

impl<S: Into<String>> From<(S, Var)> for Parameter {
    fn from((name, var): (S, Var)) -> Self {
        Self { name: name.into(), var }
    }
}

/// Tells one optimizer from another for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OptimizerId(u64);

impl OptimizerId {
    /// An id that no other optimizer has.
    #[expect(clippy::new_without_default, reason = "a default that differs each time would surprise")]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What stands between the gradients in the store and the gradients of the loss.
#[derive(Clone, Debug)]
pub struct Unscaling {
    inv_scale: f32,
    sum_squares: Option<f64>,
}

impl Unscaling {
    /// Nothing: the gradients are those of the loss.
    pub fn none() -> Self {
        Self { inv_scale: 1.0, sum_squares: None }
    }

    pub(crate) fn new(inv_scale: f32, sum_squares: f64) -> Self {
        Self { inv_scale, sum_squares: Some(sum_squares) }
    }

    /// What to multiply each gradient by, in f32 or f64.
    pub fn inv_scale(&self) -> f32 {
        self.inv_scale
    }

    /// The sum of squares of all the optimizer's gradients once unscaled, where the scaler has already taken it, so that
    /// clipping need not read them again.
    pub fn sum_squares(&self) -> Option<f64> {
        self.sum_squares
    }
}

/// An optimizer that a [`GradScaler`](crate::GradScaler) can drive.
///
/// The optimizers of `optim` implement it; [`Scaled`](crate::Scaled) gives it to any `candle_nn::Optimizer`.
pub trait ScaledOptimizer {
    /// Which optimizer this is: the same at every call.
    fn id(&self) -> OptimizerId;

    /// The parameters that it updates, whose gradients decide whether the step is taken.
    fn parameters(&self) -> &[Parameter];

    /// Takes a step. Called only when every gradient is finite.
    ///
    /// # Units
    ///
    /// The gradients may carry the loss scale; `unscaling` says how to take it out.
    ///
    /// # Errors
    ///
    /// Whatever goes wrong in the optimizer, as [`Error::Optimizer`](crate::Error::Optimizer).
    fn step_unscaling(&mut self, grads: &GradStore, unscaling: &Unscaling) -> Result<()>;

    /// Told of a step that was not taken, so that what is logged of the last step is of this one. Parameters, moments and
    /// counters stay as they are.
    fn step_was_skipped(&mut self, unscaling: &Unscaling) {
        let _ = unscaling;
    }

    /// Launches a step that takes out the scale itself, and that the device skips where a gradient is not finite, so that
    /// the host need not wait. `None` from an optimizer that cannot, for which the scaler waits and decides.
    ///
    /// # Errors
    ///
    /// As for [`step_unscaling`](Self::step_unscaling).
    #[cfg(feature = "cuda")]
    fn step_on_device(
        &mut self,
        grads: &GradStore,
        scaler: &mut backends::cuda::DeviceScaler,
    ) -> Result<Option<backends::cuda::PendingStep>> {
        let _ = (grads, scaler);
        Ok(None)
    }
}
