//! The same for candle's tensors.

use candle_core::Tensor;

use super::{Draw, drop_out};
use crate::Result;
use crate::bridge::{self, Call};

/// `x` of any float dtype with elements dropped, part of no graph.
///
/// # Errors
///
/// [`Error::Device`](crate::Error::Device) where the device fails.
pub fn dropout(x: &Tensor, draw: Draw) -> Result<Call<Tensor>> {
    let x = bridge::in_rows("dropout", x, x.elem_count())?;
    let output = (x.shape().clone(), x.dtype());
    bridge::run_one("dropout", &[&x], output, |ins, out| drop_out(&ins[0], draw, out))
}
