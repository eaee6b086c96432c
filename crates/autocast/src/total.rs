//! The one sum under every reduction, forward or backward, and what is built on it: means that are subtracted without
//! rounding them first.

use backends::kernels::sum::{Axes, Term, sum_of};
use candle_core::{DType, Tensor};

use crate::Result;
use crate::dtypes::{accumulation_dtype, rounded};
use crate::plain::{minus, over};

/// The sum of `x` over `dims`, which stay with length 1: f32 (f64 for f64), off the graph, 0 over nothing.
///
/// Accumulated in f64 and rounded once, so that it does not depend on the length.
pub(crate) fn total(x: &Tensor, dims: &[usize]) -> Result<Tensor> {
    total_in(x, dims, Term::Value, accumulation_dtype(x.dtype()))
}

/// [`total`], rounded to `x`'s dtype.
pub(crate) fn total_in_dtype(x: &Tensor, dims: &[usize]) -> Result<Tensor> {
    total_in(x, dims, Term::Value, x.dtype())
}

/// [`total`] of the values or their squares, in f64 for whoever goes on computing with it.
pub(crate) fn total_f64(x: &Tensor, dims: &[usize], term: Term) -> Result<Tensor> {
    total_in(x, dims, term, DType::F64)
}

/// [`total`] of the values or their squares, rounded to `dtype`.
fn total_in(x: &Tensor, dims: &[usize], term: Term, dtype: DType) -> Result<Tensor> {
    let kept: Vec<usize> = (0..x.rank()).map(|i| if dims.contains(&i) { 1 } else { x.dims()[i] }).collect();
    let mut x = x.detach().contiguous()?;
    let mut term = term;
    let groups = adjacent(dims);
    for (i, group) in groups.iter().enumerate() {
        let (before, rest) = x.dims().split_at(group.start);
        let (reduced, after) = rest.split_at(group.len());
        let product = |dims: &[usize]| dims.iter().product();
        let axes = Axes { outer: product(before), reduced: product(reduced), inner: product(after) };
        let ones = vec![1; group.len()];
        let shape = [before, &ones, after].concat();
        let to = if i + 1 == groups.len() { dtype } else { DType::F64 };
        x = summed(&x, axes, std::mem::replace(&mut term, Term::Value), to)?.reshape(shape)?;
    }
    // Squares of nothing that is summed are squares all the same.
    if term == Term::Square {
        x = rounded(&x, DType::F64)?.sqr()?;
    }
    Ok(rounded(&x, dtype)?.reshape(kept)?)
}

/// Runs of dimensions that stand beside each other, the last first.
fn adjacent(dims: &[usize]) -> Vec<std::ops::Range<usize>> {
    let mut sorted = dims.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut groups: Vec<std::ops::Range<usize>> = Vec::new();
    for dim in sorted {
        match groups.last_mut() {
            Some(last) if last.end == dim => last.end += 1,
            _ => groups.push(dim..dim + 1),
        }
    }
    groups.reverse();
    groups
}

/// The sums of a contiguous tensor, flat, in `dtype`.
fn summed(x: &Tensor, axes: Axes, term: Term, dtype: DType) -> Result<Tensor> {
    if axes.outer * axes.reduced * axes.inner == 0 {
        return Ok(Tensor::zeros(axes.outer * axes.inner, dtype, x.device())?);
    }
    if let Some(sums) = sum_of(x, axes, term, dtype)?.ran() {
        return Ok(sums);
    }
    let x = x.to_dtype(DType::F64)?.reshape((axes.outer, axes.reduced, axes.inner))?;
    let x = if term == Term::Square { x.sqr()? } else { x };
    rounded(&x.sum(1)?.flatten_all()?, dtype)
}

/// `x / divisor`, rounded once: candle's own `/` multiplies by the reciprocal, after which the mean of equal numbers is another.
pub(crate) fn quotient_of(x: &Tensor, divisor: f64) -> Result<Tensor> {
    if divisor == 1. {
        return Ok(x.clone());
    }
    let divisor = Tensor::full(divisor, (), x.device())?.to_dtype(x.dtype())?;
    over(x, &divisor)
}

/// `x`, which is wide, less its mean over `dims`, which are `count` elements.
///
/// The mean is not rounded to `x`'s dtype before it is subtracted: what an f32 cannot hold of it is subtracted after it. In
/// f64, where nothing is wider, the mean of what is left is subtracted again.
pub(crate) fn centred(x: &Tensor, dims: &[usize], count: usize) -> Result<Tensor> {
    let mean = |x: &Tensor| quotient_of(&total_f64(x, dims, Term::Value)?, count as f64);
    let exact = mean(x)?;
    let high = exact.to_dtype(x.dtype())?;
    let once = minus(x, &high)?;
    let low = match x.dtype() {
        DType::F64 => mean(&once)?,
        dtype => (exact - high.to_dtype(DType::F64)?)?.to_dtype(dtype)?,
    };
    // The mean of infinities is none, and what remains of it is NaN everywhere already.
    minus(&once, &low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_beside_each_other_are_summed_together() {
        assert_eq!(adjacent(&[0, 1, 2]), std::slice::from_ref(&(0..3)));
        assert_eq!(adjacent(&[3, 0, 2]), [2..4, 0..1]);
        assert!(adjacent(&[]).is_empty());
    }
}
