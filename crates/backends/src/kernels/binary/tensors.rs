//! The same for candle's tensors.

use candle_core::{DType, Tensor};

use super::{Binary, OP, binary};
use crate::Result;
use crate::bridge::{Call, candle, run_one};
use crate::buffer::{Ran, Why};

/// The operation on two tensors that broadcast to `dims`, in `dtype`, part of no graph.
///
/// # Errors
///
/// [`Error::Device`](crate::Error::Device) where a tensor does not broadcast to `dims`.
pub fn binary_of(of: Binary, a: &Tensor, b: &Tensor, dims: &[usize], dtype: DType) -> Result<Call<Tensor>> {
    if !a.device().is_cpu() || dims.contains(&0) {
        return Ok(Call::Composed(Why::Device));
    }
    let spread = |x: &Tensor| x.detach().broadcast_as(dims).map_err(candle(OP));
    let (a, b) = (spread(a)?, spread(b)?);
    run_one(OP, &[&a, &b], (dims.into(), dtype), |ins, out| match ins {
        [a, b] => binary(of, a, b, out),
        _ => Ok(Ran::Composed(Why::Shape("a"))),
    })
}
