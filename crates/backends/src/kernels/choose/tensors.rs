//! The same for candle's tensors.

use candle_core::{DType, Tensor};

use super::{OP, choose};
use crate::Result;
use crate::bridge::{Call, candle, run_one};
use crate::buffer::{Ran, Why};

/// `a` where the condition, of u8, is not 0, else `b`, all three broadcast to `dims`, in `dtype`, part of no graph.
///
/// # Errors
///
/// [`Error::Device`](crate::Error::Device) where a tensor does not broadcast to `dims`.
pub fn choice_of(
    condition: &Tensor,
    [a, b]: [&Tensor; 2],
    dims: &[usize],
    dtype: DType,
) -> Result<Call<Tensor>> {
    if !a.device().is_cpu() || dims.contains(&0) {
        return Ok(Call::Composed(Why::Device));
    }
    let spread = |x: &Tensor| x.detach().broadcast_as(dims).map_err(candle(OP));
    let (condition, a, b) = (spread(condition)?, spread(a)?, spread(b)?);
    run_one(OP, &[&condition, &a, &b], (dims.into(), dtype), |ins, out| match ins {
        [condition, a, b] => choose(condition, a, b, out),
        _ => Ok(Ran::Composed(Why::Shape("a"))),
    })
}
