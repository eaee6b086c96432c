//! Running sums, products and linear recurrences along a dimension, in log₂ n passes: candle's own multiplies by an n × n matrix.

use candle_core::Tensor;

use crate::Result;
use crate::plain::{plus, times};

/// Where a scan starts.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

/// `combine` over all elements up to and including each one, `identity` being what it leaves alone.
///
/// # Source
///
/// Hillis and Steele, Data Parallel Algorithms, 1986.
pub(crate) fn scan(
    x: &Tensor,
    dim: usize,
    direction: Direction,
    identity: f64,
    combine: fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let mut result = x.clone();
    let mut step = 1;
    while step < x.dims()[dim] {
        result = combine(&shifted(&result, dim, direction, step, identity)?, &result)?;
        step *= 2;
    }
    Ok(result)
}

/// `s[i] = b[i] + a[i] · s[i + 1]` along `dim`, from its end, where `s` is 0.
///
/// # Source
///
/// Blelloch, Prefix sums and their applications, 1990, section 1.4.
pub(crate) fn recurrence(a: &Tensor, b: &Tensor, dim: usize) -> Result<Tensor> {
    let (mut a, mut b) = (a.clone(), b.clone());
    let mut step = 1;
    while step < b.dims()[dim] {
        b = plus(&b, &times(&a, &shifted(&b, dim, Direction::Backward, step, 0.)?)?)?;
        a = times(&a, &shifted(&a, dim, Direction::Backward, step, 0.)?)?;
        step *= 2;
    }
    Ok(b)
}

/// The element `step` places before each one (after it, for a backward scan); `fill` where there is none.
pub(crate) fn shifted(
    x: &Tensor,
    dim: usize,
    direction: Direction,
    step: usize,
    fill: f64,
) -> Result<Tensor> {
    let rest = x.dims()[dim] - step;
    let mut pad = x.dims().to_vec();
    pad[dim] = step;
    let pad = Tensor::full(fill, pad, x.device())?.to_dtype(x.dtype())?;
    Ok(match direction {
        Direction::Forward => Tensor::cat(&[&pad, &x.narrow(dim, 0, rest)?], dim)?,
        Direction::Backward => Tensor::cat(&[&x.narrow(dim, step, rest)?, &pad], dim)?,
    })
}
