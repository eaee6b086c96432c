//! Broadcasting and its backward, sums over the copies, which run in f32 (f64 for f64) rather than in 16 bits.

use candle_core::{Shape, Tensor};

use super::product::product;
use crate::prepare::{accumulation_dtype, widen};
use crate::{Error, Result};

/// The dimensions that two shapes broadcast to.
pub(super) fn broadcast_dims(op: &str, a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    match Shape::from(a).broadcast_shape_binary_op(&Shape::from(b), "broadcast") {
        Ok(shape) => Ok(shape.into_dims()),
        Err(_) => Err(Error::shape(op, format!("a shape that broadcasts with {a:?}"), b)),
    }
}

/// `t` broadcast to `dims`, in the graph.
pub(super) fn expand(t: &Tensor, dims: &[usize]) -> Result<Tensor> {
    if t.dims() == dims {
        return Ok(t.clone());
    }
    Ok(widen(t)?.broadcast_as(dims)?.to_dtype(t.dtype())?)
}

/// `grad`, already widened, summed over the dimensions along which a tensor of shape `dims` was broadcast to it.
pub(super) fn sum_to(grad: &Tensor, dims: &[usize]) -> Result<Tensor> {
    if grad.dims() == dims {
        return Ok(grad.clone());
    }
    let missing = grad.rank() - dims.len();
    let spread: Vec<usize> = (0..grad.rank())
        .filter(|&i| i < missing || (dims[i - missing] == 1 && grad.dims()[i] != 1))
        .collect();
    let leading = spread.iter().enumerate().all(|(at, &dim)| at == dim);
    let summed = if leading {
        let (rows, columns) = grad.dims().split_at(spread.len());
        let sizes: (usize, usize) = (rows.iter().product(), columns.iter().product());
        sum_to_vector(&grad.contiguous()?.reshape(sizes)?, 1)?
    } else {
        grad.sum_keepdim(spread)?
    };
    Ok(summed.reshape(dims)?)
}

/// The sum of the contiguous `x` over every dimension but `dim`, in `x`'s dtype, accumulated in a wider one.
pub(super) fn sum_to_vector(x: &Tensor, dim: usize) -> candle_core::Result<Tensor> {
    let dims = x.dims();
    if x.elem_count() == 0 {
        return Tensor::zeros(dims[dim], x.dtype(), x.device());
    }
    let (rows, len): (usize, usize) = (dims[..dim].iter().product(), dims[dim]);
    let rest: usize = dims[dim + 1..].iter().product();
    let dtype = x.dtype();
    let per_row = if rest == 1 {
        x.reshape((rows, len))?
    } else {
        x.reshape((rows, len, rest))?.to_dtype(accumulation_dtype(dtype))?.sum(2)?
    };
    // A product with ones: matrix products accumulate in f32 and use every core, candle's sum over a leading dimension
    // does neither.
    let ones = Tensor::ones((1, rows), per_row.dtype(), per_row.device())?;
    product(&ones, &per_row)?.squeeze(0)?.to_dtype(dtype)
}
