//! Casts between floats that round once.
//!
//! Narrowing rounds to nearest, ties to even; values beyond the range become infinite, subnormal results are kept, ±0 and
//! ±∞ stay what they are, and a NaN stays a NaN. Widening is exact. Contract: bit-exact, NaN by class.
//!
//! An f64 reaches 16 bits by way of an f32 that is rounded **to odd**: towards zero, and where that was not exact, with the
//! last bit set. The set bit remembers that there was more, so that the second rounding finds no tie where there was none
//! (Boldo and Melquiond, 2008); f32 has the two bits more than either 16-bit format that this takes, subnormals included.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;
mod host;
mod scalar;
#[cfg(test)]
mod tests;

pub(crate) use host::convert_slice;
pub use scalar::{cast_f64_bf16_scalar, cast_f64_f16_scalar};

use crate::buffer::{In, Out, PlaceMut, Ran, ScalarType, Why};
use crate::simd::Isa;
use crate::{Error, Floats, Result};
use half::{bf16, f16};
use rayon::prelude::*;

/// Elements per task given to another thread.
const CHUNK: usize = 32 * 1024;

/// Writes `x` in the type of `out`, between f32, f16 and bf16; on a GPU between f32 and one of them.
///
/// # Errors
///
/// [`Error::LengthMismatch`], [`Error::Device`].
pub fn convert(x: &In<'_>, out: &mut Out<'_>) -> Result<Ran> {
    if x.count() != out.count() {
        let (expected, got) = (out.count(), x.count());
        return Err(Error::LengthMismatch { op: "cast", argument: "x", expected, got });
    }
    let takes = |of| matches!(of, ScalarType::F16 | ScalarType::Bf16 | ScalarType::F32);
    if !(takes(x.scalar_type()) && takes(out.scalar_type())) {
        return Ok(Ran::Composed(Why::Dtype("x")));
    }
    if !x.is_contiguous() {
        return Ok(Ran::Composed(Why::Layout("x")));
    }
    match out.place() {
        PlaceMut::Host(_) => host::convert(Isa::best(), x, out),
        #[cfg(feature = "cuda")]
        PlaceMut::Device(_) => cuda::convert(x, out),
    }
}

/// Whether `cast`, of f16 or bf16 on the host, is to the bit what [`convert`] makes of `x`.
pub fn is_cast(x: &[f32], cast: Floats<'_>) -> bool {
    host::is_cast(Isa::best(), x, cast)
}

/// Rounds each element of `src` to the nearest f16.
///
/// # Errors
///
/// [`Error::LengthMismatch`].
pub fn cast_f64_f16(src: &[f64], dst: &mut [f16]) -> Result<()> {
    cast("cast_f64_f16", src, dst, |x| f16::from_f32(round_to_odd(x)))
}

/// Rounds each element of `src` to the nearest bf16.
///
/// # Errors
///
/// [`Error::LengthMismatch`].
pub fn cast_f64_bf16(src: &[f64], dst: &mut [bf16]) -> Result<()> {
    cast("cast_f64_bf16", src, dst, |x| bf16::from_f32(round_to_odd(x)))
}

fn cast<T: Send>(op: &'static str, src: &[f64], dst: &mut [T], one: impl Fn(f64) -> T + Sync) -> Result<()> {
    let (expected, got) = (src.len(), dst.len());
    if expected != got {
        return Err(Error::LengthMismatch { op, argument: "dst", expected, got });
    }
    let chunk = |(src, dst): (&[f64], &mut [T])| {
        for (to, &from) in dst.iter_mut().zip(src) {
            *to = one(from);
        }
    };
    if src.len() <= CHUNK {
        chunk((src, dst));
    } else {
        src.par_chunks(CHUNK).zip(dst.par_chunks_mut(CHUNK)).for_each(chunk);
    }
    Ok(())
}

/// The f32 next to `x` towards zero, with its last bit set where that is not `x` itself.
fn round_to_odd(x: f64) -> f32 {
    let nearest = x as f32;
    let back = f64::from(nearest);
    if back == x || x.is_nan() {
        return nearest;
    }
    // Magnitudes are ordered as their bits are.
    let towards_zero = nearest.to_bits() - u32::from(back.abs() > x.abs());
    f32::from_bits(towards_zero | 1)
}
