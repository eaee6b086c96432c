//! Running sums and products along a dimension, in log₂ n passes: candle's own multiplies by an n × n matrix.

use candle_core::Tensor;

use crate::Result;

/// Where a scan starts.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Direction {
    Forward,
    Backward,
}

/// `combine` over all elements up to and including each one, `identity` being what it leaves alone.
///
/// # Source
///
/// Hillis and Steele, Data Parallel Algorithms, 1986.
pub(super) fn scan(
    x: &Tensor,
    dim: usize,
    direction: Direction,
    identity: f64,
    combine: fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
) -> Result<Tensor> {
    let length = x.dims()[dim];
    let mut result = x.clone();
    let mut step = 1;
    while step < length {
        let mut pad = x.dims().to_vec();
        pad[dim] = step;
        let pad = Tensor::full(identity, pad, x.device())?.to_dtype(x.dtype())?;
        let shifted = match direction {
            Direction::Forward => Tensor::cat(&[&pad, &result.narrow(dim, 0, length - step)?], dim)?,
            Direction::Backward => Tensor::cat(&[&result.narrow(dim, step, length - step)?, &pad], dim)?,
        };
        result = combine(&shifted, &result)?;
        step *= 2;
    }
    Ok(result)
}
