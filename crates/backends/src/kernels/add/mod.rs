//! Sums of two buffers, and additions into a part of one: residuals, and gradients that meet.
//!
//! `out = a ± b` element by element, with `b` repeated where it is shorter, `target[offset + Σ index · stride] += x[index]`, and `target[i, j] += row[j]`. Each sum is
//! taken in f32, in f64 where an operand is of f64, and rounded once, to nearest even. Contract: bit-exact on every device, NaN by class.

#[cfg(feature = "cuda")]
mod cuda;
mod host;
mod scalar;
#[cfg(feature = "candle")]
mod tensors;
#[cfg(test)]
mod tests;

pub use scalar::{add_into_scalar, add_scalar};
#[cfg(feature = "candle")]
pub use tensors::{add_into, add_row, sum_of};

use crate::buffer::{In, Out, PlaceMut, Ran, Why};
use crate::{Error, Result};

/// Whether the second operand is added or taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// `a + b`.
    Plus,
    /// `a − b`.
    Minus,
}

impl Sign {
    fn factor(self) -> f64 {
        match self {
            Self::Plus => 1.,
            Self::Minus => -1.,
        }
    }
}

/// Where the elements of a buffer lie among those of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Among {
    /// From one index of a dimension to the next. No two indices may lead to one element.
    pub strides: Vec<usize>,
    /// Where index 0 leads.
    pub offset: usize,
}

/// Dimensions that a strided addition takes on a device, after those are merged that are walked as one.
#[cfg(feature = "cuda")]
const RANK: usize = 6;

/// `a ± b` of as many elements as `out`; `b` has as many, or a part of them that is repeated.
///
/// # Errors
///
/// [`Error::LengthMismatch`], [`Error::Device`].
pub fn add(a: &In<'_>, b: &In<'_>, sign: Sign, out: &mut Out<'_>) -> Result<Ran> {
    let repeats = b.count() == out.count() || (b.count() > 0 && out.count().is_multiple_of(b.count()));
    for (argument, input, fits) in [("a", a, a.count() == out.count()), ("b", b, repeats)] {
        if !fits {
            let (expected, got) = (out.count(), input.count());
            return Err(Error::LengthMismatch { op: "add", argument, expected, got });
        }
        if !input.scalar_type().is_float() {
            return Ok(Ran::Composed(Why::Dtype(argument)));
        }
        if !input.is_contiguous() {
            return Ok(Ran::Composed(Why::Layout(argument)));
        }
    }
    if !out.scalar_type().is_float() {
        return Ok(Ran::Composed(Why::Dtype("the result")));
    }
    match out.place() {
        PlaceMut::Host(_) => host::add(a, b, sign, out),
        #[cfg(feature = "cuda")]
        PlaceMut::Device(_) => cuda::add(a, b, sign, out),
    }
}

/// Adds each element of `x` to the one of `target` where it lies.
///
/// # Errors
///
/// [`Error::Operand`] where an index leads past the target, or two to one element; [`Error::Device`].
pub fn add_to_part(x: &In<'_>, among: &Among, target: &mut Out<'_>) -> Result<Ran> {
    among.check(x.dims(), target.count())?;
    for (argument, of) in [("x", x.scalar_type()), ("the target", target.scalar_type())] {
        if !of.is_float() {
            return Ok(Ran::Composed(Why::Dtype(argument)));
        }
    }
    if !x.is_contiguous() {
        return Ok(Ran::Composed(Why::Layout("x")));
    }
    if x.count() == 0 {
        return Ok(Ran::Kernel("add_into"));
    }
    match target.place() {
        PlaceMut::Host(_) => host::add_to_part(x, among, target),
        #[cfg(feature = "cuda")]
        PlaceMut::Device(_) => cuda::add_to_part(x, among, target),
    }
}

/// Adds `row` to every run of as many elements of `target`.
///
/// # Errors
///
/// [`Error::LengthMismatch`] where the target is not so many rows, [`Error::Device`].
pub fn add_to_rows(row: &In<'_>, target: &mut Out<'_>) -> Result<Ran> {
    let (width, len) = (row.count(), target.count());
    if len == 0 {
        return Ok(Ran::Kernel("add_row"));
    }
    if width == 0 || !len.is_multiple_of(width) {
        return Err(Error::LengthMismatch { op: "add", argument: "the row", expected: len, got: width });
    }
    for (argument, of) in [("the row", row.scalar_type()), ("the target", target.scalar_type())] {
        if !of.is_float() {
            return Ok(Ran::Composed(Why::Dtype(argument)));
        }
    }
    if !row.is_contiguous() {
        return Ok(Ran::Composed(Why::Layout("the row")));
    }
    match target.place() {
        PlaceMut::Host(_) => host::add_to_rows(row, target),
        #[cfg(feature = "cuda")]
        PlaceMut::Device(_) => cuda::add_to_rows(row, target),
    }
}

impl Among {
    /// Everything in order: `dims` contiguous from index 0 on.
    pub fn whole(dims: &[usize]) -> Self {
        let mut strides = vec![1usize; dims.len()];
        for i in (1..dims.len()).rev() {
            strides[i - 1] = strides[i].saturating_mul(dims[i].max(1));
        }
        Self { strides, offset: 0 }
    }

    fn check(&self, dims: &[usize], len: usize) -> Result<()> {
        let refuse = |expected: &str| Error::Operand {
            op: "add",
            argument: "the strides",
            expected: expected.to_string(),
            got: format!("{:?} from {} on, for {dims:?} among {len} elements", self.strides, self.offset),
        };
        if dims.len() != self.strides.len() {
            return Err(refuse("one per dimension"));
        }
        if dims.contains(&0) {
            return Ok(());
        }
        let runs = self.runs(dims);
        let mut reach = 1usize;
        for &(size, stride) in &runs {
            if stride < reach {
                return Err(refuse("a place of its own for each element"));
            }
            let further = (size - 1).checked_mul(stride).and_then(|further| further.checked_add(reach));
            reach = further.ok_or_else(|| refuse("places that can be counted"))?;
        }
        match self.offset.checked_add(reach) {
            Some(end) if end <= len => Ok(()),
            _ => Err(refuse("places within the target")),
        }
    }

    /// Sizes and strides of the dimensions that are longer than 1, the nearest first.
    fn runs(&self, dims: &[usize]) -> Vec<(usize, usize)> {
        let long = dims.iter().copied().zip(self.strides.iter().copied()).filter(|&(size, _)| size > 1);
        let mut runs: Vec<(usize, usize)> = long.collect();
        runs.sort_by_key(|&(_, stride)| stride);
        runs
    }

    /// The same dimensions, in the order of `x` from the last, with those merged that walk the target as one does.
    fn merged(&self, dims: &[usize]) -> Vec<(usize, usize)> {
        let mut merged: Vec<(usize, usize)> = Vec::new();
        for (&size, &stride) in dims.iter().zip(&self.strides).rev().filter(|&(&size, _)| size != 1) {
            match merged.last_mut() {
                Some((len, step)) if len.checked_mul(*step) == Some(stride) => *len *= size,
                _ => merged.push((size, stride)),
            }
        }
        merged
    }
}
