//! The same for candle's tensors. What they return is part of no graph.

use candle_core::{Shape, Tensor};

use super::{Lying, OP, place};
use crate::Result;
use crate::bridge::{run, run_one};
use crate::buffer::{Ran, Why};
use crate::kernels::attention::Order;

/// `(batch, heads, rows, width)` times `factor`, contiguous in this order. `None` where no kernel does that.
///
/// # Errors
///
/// As [`place`].
pub fn gathered(x: &Tensor, factor: f64, order: Order) -> Result<Option<Tensor>> {
    let x = x.detach();
    let &[batch, heads, rows, width] = x.dims() else { return Ok(None) };
    let (dims, strides) = match order {
        Order::HeadsFirst => ([batch, heads, rows, width], [heads * rows * width, rows * width, width]),
        Order::RowsFirst => ([batch, rows, heads, width], [heads * rows * width, width, heads * width]),
    };
    let output = (Shape::from(dims.to_vec()), x.dtype());
    let lying = Lying { offset: 0, strides };
    Ok(run_one(OP, &[&x], output, |ins, out| place(&ins[0], factor, out, lying))?.ran())
}

/// Three of `(batch, heads, rows, width)`, each times its factor, as one `(batch, rows, 3, heads, width)`. `None` where no kernel does
/// that.
///
/// # Errors
///
/// As [`place`].
pub fn packed(parts: [&Tensor; 3], factors: [f64; 3]) -> Result<Option<Tensor>> {
    let &[batch, heads, rows, width] = parts[0].dims() else { return Ok(None) };
    if parts.iter().any(|part| part.dims() != parts[0].dims()) {
        return Ok(None);
    }
    let row = 3 * heads * width;
    let output = (Shape::from((batch, rows, 3, heads, width)), parts[0].dtype());
    let call = run(OP, &parts, &[output], |ins, outs| {
        let [out] = outs else { return Ok(Ran::Composed(Why::Shape("the result"))) };
        let mut ran = Ran::Composed(Why::Shape("x"));
        for (i, x) in ins.iter().enumerate() {
            let lying = Lying { offset: i * heads * width, strides: [rows * row, width, row] };
            ran = place(x, factors[i], out, lying)?;
            if let Ran::Composed(_) = ran {
                break;
            }
        }
        Ok(ran)
    })?;
    Ok(call.ran().and_then(|mut made| made.pop()))
}
