//! `GradScaler::commit`: what a forward pass wants to remember is remembered if its step is applied.

use crate::{Error, GradScaler, Result, StepOutcome};
use backends::kernels::step::{is_float, storage_address};
use candle_core::{Tensor, Var};

impl GradScaler {
    /// Writes new values over variables that no optimizer updates, such as running statistics, if the step with this
    /// outcome is applied; a skipped step leaves them as they are, to the bit.
    ///
    /// Where the outcome is [`Pending`](StepOutcome::Pending), the device decides, and the host does not wait: call it
    /// after the [`step`](Self::step) whose outcome it is, before any other step of this scaler.
    ///
    /// # Errors
    ///
    /// [`Error::BadUpdate`] for a value of another shape, dtype or device than its variable, before anything is written;
    /// [`Error::NothingPending`].
    pub fn commit(&mut self, outcome: &StepOutcome, updates: Vec<(Var, Tensor)>) -> Result<()> {
        let mut fitting = Vec::with_capacity(updates.len());
        for (index, (var, value)) in updates.into_iter().enumerate() {
            check(index, &var, &value)?;
            // A view of the variable is read before it is written to.
            let value = value.contiguous()?;
            let value = if storage_address(&var) == storage_address(&value) { value.copy()? } else { value };
            fitting.push((var, value));
        }
        match outcome {
            StepOutcome::Skipped { .. } => Ok(()),
            StepOutcome::Applied => fitting.iter().try_for_each(|(var, value)| Ok(var.set(value)?)),
            StepOutcome::Pending => {
                let on = self.active.as_mut().ok_or(Error::NothingPending)?;
                let pending = on.last.as_ref().filter(|step| !step.is_decided());
                Ok(on.copies.copy(pending.ok_or(Error::NothingPending)?, &fitting)?)
            }
        }
    }
}

fn check(index: usize, var: &Var, value: &Tensor) -> Result<()> {
    let described =
        |x: &Tensor| format!("{} {:?} on {:?}", x.dtype().as_str(), x.dims(), x.device().location());
    let fits = var.shape() == value.shape()
        && var.dtype() == value.dtype()
        && var.device().same_device(value.device());
    if !fits {
        return Err(Error::BadUpdate { index, expected: described(var), got: described(value) });
    }
    if !is_float(var.dtype()) {
        let expected = "f16, bf16, f32 or f64".to_string();
        return Err(Error::BadUpdate { index, expected, got: described(value) });
    }
    Ok(())
}
