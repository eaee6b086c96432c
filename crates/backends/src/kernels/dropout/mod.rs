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
use crate::{Error, Real, Result, Store};
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
    fn threshold(self) -> u64 {
        (self.p * 2f64.powi(32)) as u64
    }

    /// What is kept is multiplied by this.
    pub fn scale(self) -> f64 {
        if self.p == 1. { 0. } else { 1. / (1. - self.p) }
    }

    /// Whether the element of this index is kept.
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

/// Elements that are worked on at a time, and per task.
const BLOCK: usize = 512;
const CHUNK: usize = 16 * BLOCK;

fn host(x: &In<'_>, draw: Draw, out: &mut Out<'_>) -> Result<Ran> {
    let (Some(x), Some(out)) = (x.host_slice(), out.host_slice()) else {
        return Ok(Ran::Composed(Why::Device));
    };
    match (x, out) {
        (Slice::F16(x), SliceMut::F16(out)) => blocks::<_, f32>(x, draw, out),
        (Slice::Bf16(x), SliceMut::Bf16(out)) => blocks::<_, f32>(x, draw, out),
        (Slice::F32(x), SliceMut::F32(out)) => blocks::<_, f32>(x, draw, out),
        (Slice::F64(x), SliceMut::F64(out)) => blocks::<_, f64>(x, draw, out),
        _ => return Ok(Ran::Composed(Why::Dtype("x"))),
    }
    Ok(Ran::Kernel("dropout"))
}

fn blocks<T: Store<A>, A: Real>(x: &[T], draw: Draw, out: &mut [T]) {
    let scale = A::from_f64(draw.scale());
    let task = |(i, (x, out)): (usize, (&[T], &mut [T]))| {
        let mut wide = [A::ZERO; BLOCK];
        for (block, (x, out)) in x.chunks(BLOCK).zip(out.chunks_mut(BLOCK)).enumerate() {
            let wide = &mut wide[..x.len()];
            A::load(T::floats(x), wide);
            for (k, x) in wide.iter_mut().enumerate() {
                *x = if draw.keeps(i * CHUNK + block * BLOCK + k) { *x * scale } else { A::ZERO };
            }
            T::store(wide, out);
        }
    };
    match x.len() > 2 * CHUNK {
        true => x.par_chunks(CHUNK).zip(out.par_chunks_mut(CHUNK)).enumerate().for_each(task),
        false => x.chunks(CHUNK).zip(out.chunks_mut(CHUNK)).enumerate().for_each(task),
    }
}
