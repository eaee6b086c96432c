//! The same for candle's tensors.

use candle_core::Tensor;

use super::{Draw, drop_out};
use crate::Result;
use crate::bridge::{self, Call};
use crate::buffer::{Ran, Why};

/// `x` of any float dtype with elements dropped, part of no graph.
///
/// # Errors
///
/// [`Error::Device`](crate::Error::Device) where the device fails.
pub fn dropout(x: &Tensor, draw: Draw) -> Result<Call<Tensor>> {
    let x = bridge::in_rows("dropout", x, x.elem_count())?;
    let call =
        bridge::run("dropout", &[&x], &[(x.shape().clone(), x.dtype())], |ins, outs| match (ins, outs) {
            ([x], [out]) => drop_out(x, draw, out),
            _ => Ok(Ran::Composed(Why::Shape("the result"))),
        })?;
    Ok(match call {
        Call::Ran(mut made) => made.pop().map_or(Call::Composed(Why::Shape("the result")), Call::Ran),
        Call::Composed(why) => Call::Composed(why),
    })
}
