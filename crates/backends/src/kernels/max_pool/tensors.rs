//! The same for candle's tensors. What is returned is part of no graph.

use candle_core::{DType, Shape, Tensor};

use super::windows::{OP, Windows, gradient, largest};
use crate::Result;
use crate::bridge::{Call, candle, run, run_one};
use crate::buffer::{Ran, Why};

/// The largest of each window, and the number of its tap.
///
/// # Errors
///
/// As [`largest`].
pub fn largest_of(windows: &Windows, x: &Tensor) -> Result<Call<[Tensor; 2]>> {
    let x = x.detach().contiguous().map_err(candle(OP))?;
    let shape = || Shape::from(windows.out().to_vec());
    let outputs = [(shape(), x.dtype()), (shape(), DType::U8)];
    let call = run(OP, &[&x], &outputs, |ins, outs| match (ins, outs) {
        ([x], [out, taps]) => largest(windows, x, out, taps),
        _ => Ok(Ran::Composed(Why::Shape("x"))),
    })?;
    Ok(match call {
        Call::Ran(made) => made.try_into().map_or(Call::Composed(Why::Shape("x")), Call::Ran),
        Call::Composed(why) => Call::Composed(why),
    })
}

/// The gradient of what was pooled.
///
/// # Errors
///
/// As [`gradient`].
pub fn gradient_of(windows: &Windows, dy: &Tensor, taps: &Tensor) -> Result<Call<Tensor>> {
    let dy = dy.detach().contiguous().map_err(candle(OP))?;
    run_one(OP, &[&dy, taps], (Shape::from(windows.dims.to_vec()), dy.dtype()), |ins, dx| match ins {
        [dy, taps] => gradient(windows, dy, taps, dx),
        _ => Ok(Ran::Composed(Why::Shape("dy"))),
    })
}
