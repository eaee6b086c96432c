//! Broadcasting and its backward, sums over the copies, which run in f32 (f64 for f64) rather than in 16 bits.

use candle_core::{DType, Shape, Tensor};

use super::empty::of_no_elements;
use super::size::check_size;
use crate::region::widen;
use crate::total::total_in_dtype;
use crate::{Error, Result};

/// The dimensions that two shapes broadcast to.
pub(crate) fn broadcast_dims(op: &str, a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    match Shape::from(a).broadcast_shape_binary_op(&Shape::from(b), "broadcast") {
        Ok(shape) => {
            check_size(op, shape.dims(), DType::F32)?;
            Ok(shape.into_dims())
        }
        Err(_) => Err(Error::shape(op, "the second input", b, format!("a shape that broadcasts with {a:?}"))),
    }
}

/// `t` broadcast to `dims`, in the graph.
pub(crate) fn expand(t: &Tensor, dims: &[usize]) -> Result<Tensor> {
    if t.dims() == dims {
        return Ok(t.clone());
    }
    if let Some(empty) = of_no_elements("broadcast", &[t], dims, t.dtype())? {
        return Ok(empty);
    }
    Ok(widen(t)?.broadcast_as(dims)?.to_dtype(t.dtype())?)
}

/// `grad`, already widened, summed over the dimensions along which a tensor of shape `dims` was broadcast to it.
pub(crate) fn sum_to(grad: &Tensor, dims: &[usize]) -> Result<Tensor> {
    if grad.dims() == dims {
        return Ok(grad.clone());
    }
    let missing = grad.rank() - dims.len();
    let spread: Vec<usize> = (0..grad.rank())
        .filter(|&i| i < missing || (dims[i - missing] == 1 && grad.dims()[i] != 1))
        .collect();
    Ok(total_in_dtype(grad, &spread)?.reshape(dims)?)
}

/// The sum of `x` over every dimension but `dim`, in `x`'s dtype, accumulated in a wider one.
pub(crate) fn sum_to_vector(x: &Tensor, dim: usize) -> candle_core::Result<Tensor> {
    let others: Vec<usize> = (0..x.rank()).filter(|&other| other != dim).collect();
    total_in_dtype(x, &others)?.flatten_all()
}
