//! Dropout: `out[i] = x[i] · scale` where element `i` is kept, and 0 elsewhere, whatever `x[i]` is.
//!
//! Whether it is kept is drawn from a key and the index alone, so that no mask is stored: the backward pass is the same call
//! on the gradient. The product is taken in f32 (f64 for f64) and rounded once. Contract: bit-exact, NaN by class.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "candle")]
mod tensors;
#[cfg(test)]
mod tests;

#[cfg(feature = "candle")]
pub use tensors::dropout;

use crate::buffer::{In, Out, PlaceMut, Ran, Slice, SliceMut, Why};
use crate::random::random_bits;
use crate::simd::convert::Stored;
use crate::simd::map::{BLOCK, Block, Blocks, Map};
use crate::simd::{Isa, Simd};
use crate::{Error, Real, Result};
use rayon::prelude::*;

/// What is dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Of the generator.
    pub key: u64,
    /// The probability of being dropped.
    pub p: f64,
}

impl Draw {
    /// Draws below this, of 2^32, drop their element.
    #[inline(always)]
    fn threshold(self) -> u64 {
        (self.p * 2f64.powi(32)) as u64
    }

    /// What is kept is multiplied by this.
    pub fn scale(self) -> f64 {
        if self.p == 1. { 0. } else { 1. / (1. - self.p) }
    }

    /// Whether the element of this index is kept.
    #[inline(always)]
    pub fn keeps(self, index: usize) -> bool {
        u64::from(random_bits(self.key, index as u64)) >= self.threshold()
    }
}

/// Drops elements of a contiguous `x`.
///
/// # Errors
///
/// [`Error::LengthMismatch`], [`Error::Device`].
pub fn drop_out(x: &In<'_>, draw: Draw, out: &mut Out<'_>) -> Result<Ran> {
    if x.count() != out.count() {
        let (expected, got) = (out.count(), x.count());
        return Err(Error::LengthMismatch { op: "dropout", argument: "x", expected, got });
    }
    if x.scalar_type() != out.scalar_type() {
        return Ok(Ran::Composed(Why::Dtype("the result")));
    }
    if !x.is_contiguous() {
        return Ok(Ran::Composed(Why::Layout("x")));
    }
    match out.place() {
        PlaceMut::Host(_) => host(x, draw, out),
        #[cfg(feature = "cuda")]
        PlaceMut::Device(_) => cuda::drop_out(x, draw, out),
    }
}

/// Elements per task.
const CHUNK: usize = 8 * 1024;

fn host(x: &In<'_>, draw: Draw, out: &mut Out<'_>) -> Result<Ran> {
    let (Some(x), Some(out)) = (x.host_slice(), out.host_slice()) else {
        return Ok(Ran::Composed(Why::Device));
    };
    match (x, out) {
        (Slice::F16(x), SliceMut::F16(out)) => typed::<f32, _>(x, draw, out),
        (Slice::Bf16(x), SliceMut::Bf16(out)) => typed::<f32, _>(x, draw, out),
        (Slice::F32(x), SliceMut::F32(out)) => typed::<f32, _>(x, draw, out),
        (Slice::F64(x), SliceMut::F64(out)) => typed::<f64, _>(x, draw, out),
        _ => return Ok(Ran::Composed(Why::Dtype("x"))),
    }
    Ok(Ran::Kernel("dropout"))
}

fn typed<T: Real, X: Stored<T>>(x: &[X], draw: Draw, out: &mut [X]) {
    let dropped = Dropped { draw, scale: T::from_f64(draw.scale()) };
    let task = |(i, (x, out)): (usize, (&[X], &mut [X]))| {
        Isa::best().run(Map::new(&dropped, i * CHUNK, x, out));
    };
    match x.len() > 2 * CHUNK {
        true => x.par_chunks(CHUNK).zip(out.par_chunks_mut(CHUNK)).enumerate().for_each(task),
        false => task((0, (x, out))),
    }
}

struct Dropped<T> {
    draw: Draw,
    scale: T,
}

impl<T: Real> Blocks<T, 1> for &Dropped<T> {
    #[inline(always)]
    fn make<S: Simd>(&self, _: S, at: usize, [x]: [&Block<T>; 1], to: &mut Block<T>) {
        let Ok(threshold) = u32::try_from(self.draw.threshold()) else {
            // No draw is as large.
            return to.fill(T::ZERO);
        };
        // Drawn before they are used, so that each loop is of numbers of one size.
        let mut draws = [0; BLOCK];
        for (i, draw) in draws.iter_mut().enumerate() {
            *draw = random_bits(self.draw.key, (at + i) as u64);
        }
        for ((to, &x), draw) in to.iter_mut().zip(x).zip(draws) {
            let kept = x * self.scale;
            *to = if draw >= threshold { kept } else { T::ZERO };
        }
    }
}
