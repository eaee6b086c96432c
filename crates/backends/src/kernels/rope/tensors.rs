//! The same for candle's tensors.

use candle_core::Tensor;

use super::{Inputs, OP, Pairs, Turn, rotate};
use crate::Result;
use crate::bridge::{Call, candle, run_one};
use crate::buffer::{Ran, Why};

/// The rows of `x`, turned by angles of as many rows and half the width, part of no graph.
///
/// # Errors
///
/// As [`rotate`].
pub fn rotated(x: &Tensor, [cos, sin]: [&Tensor; 2], pairs: Pairs, turn: Turn) -> Result<Call<Tensor>> {
    if !x.device().is_cpu() {
        return Ok(Call::Composed(Why::Device));
    }
    let in_rows = |x: &Tensor| match x.stride().last() {
        Some(1) => Ok(x.detach()),
        _ => x.detach().contiguous().map_err(candle(OP)),
    };
    let (x, cos, sin) = (in_rows(x)?, in_rows(cos)?, in_rows(sin)?);
    run_one(OP, &[&x, &cos, &sin], (x.shape().clone(), x.dtype()), |ins, out| match ins {
        [x, cos, sin] => rotate(Inputs { x, cos, sin }, pairs, turn, out),
        _ => Ok(Ran::Composed(Why::Shape("x"))),
    })
}
