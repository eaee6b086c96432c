//! What is not finite, kept apart from sums whose factors of 0 are to hide it.
//!
//! A causal sum `out[i] = Σ_j w[i, j] · x[j]`, with `w` 0 where `j` is not seen, is NaN everywhere if an `x[j]` is. So it is
//! taken of [`finite_or_zero`], and [`spread`] writes NaN where one that is not finite is seen.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "candle")]
mod tensors;
#[cfg(test)]
mod tests;

#[cfg(feature = "candle")]
pub use tensors::{finite_of, spread_to};

use crate::buffer::{In, Out, PlaceMut, Ran, Slice, SliceMut, Why};
use crate::simd::{Isa, Simd, Work};
use crate::{Error, Result};
use half::{bf16, f16};
use rayon::prelude::*;

const OP: &str = "finite";

/// Which rows a row is seen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenBy {
    /// Itself and those after it.
    Later,
    /// Itself and those before it.
    Earlier,
}

/// `out[i] = x[i]` where that is finite, and 0 elsewhere. Both are contiguous and of one float type.
///
/// # Errors
///
/// [`Error::LengthMismatch`], [`Error::Device`].
pub fn finite_or_zero(x: &In<'_>, out: &mut Out<'_>) -> Result<Ran> {
    if x.count() != out.count() {
        let (expected, got) = (out.count(), x.count());
        return Err(Error::LengthMismatch { op: OP, argument: "x", expected, got });
    }
    if x.scalar_type() != out.scalar_type() || !x.scalar_type().is_float() {
        return Ok(Ran::Composed(Why::Dtype("x")));
    }
    if !x.is_contiguous() {
        return Ok(Ran::Composed(Why::Layout("x")));
    }
    match out.place() {
        PlaceMut::Host(_) => host_finite(x, out),
        #[cfg(feature = "cuda")]
        PlaceMut::Device(_) => cuda::finite_or_zero(x, out),
    }
}

/// Writes NaN to each `target[b, i, c]` that sees an `x[b, j, c]` which is not finite, and leaves the rest as it is.
///
/// `x` is `(batch, rows, width)`, `target` `(batch, other rows, width)`; both are contiguous and of one float type.
///
/// # Errors
///
/// [`Error::Operand`] for shapes that do not fit, [`Error::Device`].
pub fn spread(x: &In<'_>, by: SeenBy, target: &mut Out<'_>) -> Result<Ran> {
    let (&[batch, rows, width], &[others, into, also]) = (x.dims(), target.dims()) else {
        return Err(unfit(x, target));
    };
    if (others, also) != (batch, width) {
        return Err(unfit(x, target));
    }
    if x.scalar_type() != target.scalar_type() || !x.scalar_type().is_float() {
        return Ok(Ran::Composed(Why::Dtype("x")));
    }
    if !x.is_contiguous() {
        return Ok(Ran::Composed(Why::Layout("x")));
    }
    let sizes = Sizes { rows, into, width };
    match target.place() {
        PlaceMut::Host(_) => host_spread(x, by, sizes, target),
        #[cfg(feature = "cuda")]
        PlaceMut::Device(_) => cuda::spread(x, by, sizes, target),
    }
}

#[derive(Clone, Copy, Debug)]
struct Sizes {
    rows: usize,
    into: usize,
    width: usize,
}

fn unfit(x: &In<'_>, target: &Out<'_>) -> Error {
    let expected = format!("(batch, rows, width) like {:?}", x.dims());
    Error::Operand { op: OP, argument: "the target", expected, got: format!("{:?}", target.dims()) }
}

/// Elements per task.
const CHUNK: usize = 32 * 1024;

fn host_finite(x: &In<'_>, out: &mut Out<'_>) -> Result<Ran> {
    match (x.host_slice(), out.host_slice()) {
        (Some(Slice::F16(x)), Some(SliceMut::F16(out))) => chosen(x, out, f16::ZERO, f16::is_finite),
        (Some(Slice::Bf16(x)), Some(SliceMut::Bf16(out))) => chosen(x, out, bf16::ZERO, bf16::is_finite),
        (Some(Slice::F32(x)), Some(SliceMut::F32(out))) => chosen(x, out, 0., f32::is_finite),
        (Some(Slice::F64(x)), Some(SliceMut::F64(out))) => chosen(x, out, 0., f64::is_finite),
        _ => return Ok(Ran::Composed(Why::Device)),
    }
    Ok(Ran::Kernel("finite"))
}

fn chosen<T: Copy + Send + Sync>(
    x: &[T],
    out: &mut [T],
    zero: T,
    is_finite: impl Fn(T) -> bool + Copy + Send + Sync,
) {
    let part = |(x, out): (&[T], &mut [T])| Isa::best().run(Finite { x, out, zero, is_finite });
    match x.len() > CHUNK {
        true => x.par_chunks(CHUNK).zip(out.par_chunks_mut(CHUNK)).for_each(part),
        false => part((x, out)),
    }
}

struct Finite<'a, T, F> {
    x: &'a [T],
    out: &'a mut [T],
    zero: T,
    is_finite: F,
}

impl<T: Copy, F: Fn(T) -> bool> Work for Finite<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (out, &x) in self.out.iter_mut().zip(self.x) {
            *out = if (self.is_finite)(x) { x } else { self.zero };
        }
    }
}

fn host_spread(x: &In<'_>, by: SeenBy, sizes: Sizes, target: &mut Out<'_>) -> Result<Ran> {
    match (x.host_slice(), target.host_slice()) {
        (Some(Slice::F16(x)), Some(SliceMut::F16(out))) => mark(x, by, sizes, out, f16::is_finite, f16::NAN),
        (Some(Slice::Bf16(x)), Some(SliceMut::Bf16(out))) => {
            mark(x, by, sizes, out, bf16::is_finite, bf16::NAN);
        }
        (Some(Slice::F32(x)), Some(SliceMut::F32(out))) => mark(x, by, sizes, out, f32::is_finite, f32::NAN),
        (Some(Slice::F64(x)), Some(SliceMut::F64(out))) => mark(x, by, sizes, out, f64::is_finite, f64::NAN),
        _ => return Ok(Ran::Composed(Why::Device)),
    }
    Ok(Ran::Kernel("finite"))
}

fn mark<T: Copy>(x: &[T], by: SeenBy, sizes: Sizes, target: &mut [T], is_finite: fn(T) -> bool, nan: T) {
    let Sizes { rows, into, width } = sizes;
    for (at, _) in x.iter().enumerate().filter(|&(_, &x)| !is_finite(x)) {
        let (b, j, c) = (at / (rows * width), at / width % rows, at % width);
        let seers = match by {
            SeenBy::Later => j.min(into)..into,
            SeenBy::Earlier => 0..into.min(j + 1),
        };
        seers.for_each(|i| target[(b * into + i) * width + c] = nan);
    }
}
