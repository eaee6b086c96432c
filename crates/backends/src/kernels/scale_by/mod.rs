//! A tensor times a number that is on its device, rounded once: what a gradient made beforehand is multiplied by once the gradient
//! of its loss is known.
//!
//! `out[i] = x[i] · factor`, in f32 (in f64 where `x` is), rounded to `out`'s type to nearest even. A factor of 0 gives 0, whatever
//! `x` holds: what has no part in a loss is left out by choice. NaN and infinities are multiplied as they are.
//!
//! Contract: [`scale_by_scalar`] to the bit.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "candle")]
mod tensors;
#[cfg(test)]
mod tests;

#[cfg(feature = "candle")]
pub use tensors::scaled_by;

use crate::buffer::{In, Out, PlaceMut, Ran, ScalarType, Slice, SliceMut, Why};
use crate::simd::rows::{PARALLEL, load, store};
use crate::simd::{Isa, Simd, Work};
use crate::threads::share_out;
use crate::{Error, Result};

const OP: &str = "scale_by";

/// One element.
pub fn scale_by_scalar<T: Default + PartialEq + std::ops::Mul<Output = T>>(x: T, factor: T) -> T {
    if factor == T::default() { T::default() } else { x * factor }
}

/// Writes `x · factor`, for contiguous floats of any type (f64 beside f64 alone) and one factor in f32 or f64.
///
/// # Errors
///
/// [`Error::LengthMismatch`], [`Error::Device`].
pub fn scale_by(x: &In<'_>, factor: &In<'_>, out: &mut Out<'_>) -> Result<Ran> {
    for (argument, expected, got) in [("x", out.count(), x.count()), ("factor", 1, factor.count())] {
        if expected != got {
            return Err(Error::LengthMismatch { op: OP, argument, expected, got });
        }
    }
    if !ScalarType::are_floats_of_one_width(&[x.scalar_type(), out.scalar_type()])
        || !matches!(factor.scalar_type(), ScalarType::F32 | ScalarType::F64)
    {
        return Ok(Ran::Composed(Why::Dtype("x or the factor")));
    }
    if !x.is_contiguous() {
        return Ok(Ran::Composed(Why::Layout("x")));
    }
    match out.place() {
        PlaceMut::Host(_) => Ok(on_host(x, factor, out)),
        #[cfg(feature = "cuda")]
        PlaceMut::Device(_) => cuda::scale_by(x, factor, out),
    }
}

fn on_host(x: &In<'_>, factor: &In<'_>, out: &mut Out<'_>) -> Ran {
    let factor = match factor.host_slice() {
        Some(Slice::F32(&[factor])) => f64::from(factor),
        Some(Slice::F64(&[factor])) => factor,
        _ => return Ran::Composed(Why::Device),
    };
    let (Some(x), Some(out)) = (x.host_slice(), out.host_slice()) else { return Ran::Composed(Why::Device) };
    let isa = Isa::best();
    let tasks = out.chunks(PARALLEL).into_iter().enumerate().collect();
    share_out(tasks, |(i, out)| isa.run(Part { x, from: i * PARALLEL, factor, out }));
    Ran::Kernel(OP)
}

struct Part<'a> {
    x: Slice<'a>,
    from: usize,
    factor: f64,
    out: SliceMut<'a>,
}

impl Work for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        if let (Slice::F64(x), SliceMut::F64(out)) = (self.x, &mut self.out) {
            out.iter_mut().zip(&x[self.from..]).for_each(|(out, &x)| *out = scale_by_scalar(x, self.factor));
            return;
        }
        let factor = self.factor as f32;
        let mut block = [0f32; 256];
        for at in (0..self.out.len()).step_by(block.len()) {
            let part = &mut block[..(self.out.len() - at).min(256)];
            load(simd, self.x, self.from + at..self.from + at + part.len(), part);
            part.iter_mut().for_each(|x| *x = scale_by_scalar(*x, factor));
            store(simd, part, &mut self.out, at..at + part.len());
        }
    }
}
