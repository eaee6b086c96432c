//! The same for candle's tensors. What is returned is part of no graph.

use super::{OP, SeenBy, finite_or_zero, spread};
use crate::Result;
use crate::bridge::{in_rows, run_one, update};
use crate::buffer::Ran;
use candle_core::Tensor;

/// `x` with 0 in the place of what is not finite. `None` where no kernel takes the call.
///
/// # Errors
///
/// As [`finite_or_zero`].
pub fn finite_of(x: &Tensor) -> Result<Option<Tensor>> {
    let x = in_rows(OP, x, x.elem_count())?;
    let output = (x.shape().clone(), x.dtype());
    Ok(run_one(OP, &[&x], output, |ins, out| finite_or_zero(&ins[0], out))?.ran())
}

/// [`spread`] of `x` to `target`, in place.
///
/// # Errors
///
/// As [`spread`].
pub fn spread_to(target: &Tensor, x: &Tensor, by: SeenBy) -> Result<Ran> {
    let x = in_rows(OP, x, x.elem_count())?;
    update(OP, target, &[&x], |ins, target| spread(&ins[0], by, target))
}
