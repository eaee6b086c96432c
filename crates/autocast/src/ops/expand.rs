//! Broadcasting whose gradient, a sum over the copies, is accumulated in f32 rather than in 16 bits.

use candle_core::Tensor;

use crate::prepare::widen;
use crate::{Error, Result};

/// `t` broadcast to `dims`.
pub(super) fn expand(t: &Tensor, dims: &[usize]) -> Result<Tensor> {
    if t.dims() == dims {
        return Ok(t.clone());
    }
    Ok(widen(t)?.broadcast_as(dims)?.to_dtype(t.dtype())?)
}

/// The sum over `dims`, which are removed.
pub(super) fn sum_over(t: &Tensor, dims: &[usize]) -> Result<Tensor> {
    if dims.is_empty() {
        return Ok(t.clone());
    }
    Ok(widen(t)?.sum(dims)?.to_dtype(t.dtype())?)
}

/// The dimensions that two shapes broadcast to.
pub(super) fn broadcast_dims(op: &str, a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], i: usize| (i + dims.len()).checked_sub(rank).map_or(1, |i| dims[i]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y || y == 1 => Ok(x),
            (1, y) => Ok(y),
            _ => Err(Error::shape(op, format!("a shape that broadcasts with {a:?}"), b)),
        })
        .collect()
}
