//! Copies with the channels in another place: `out[n, b, a] = x[n, a, b]`, of any type whose elements are of 2, 4 or 8 bytes, on a
//! GPU. Where `out` is wider than `a`, which may then be 32 at most, zeros are behind it. Bit-exact.
//!
//! Elsewhere, and for other strides, the caller copies as it can.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "candle")]
mod tensors;

#[cfg(feature = "candle")]
pub use tensors::{lies_last, relaid, widened};

use crate::buffer::{In, Out, Ran, Why};
use crate::{Error, Result};

const OP: &str = "relayout";

/// Writes `x`, contiguous and of `(n, a, b)`, to `out` of `(n, b, width)`, where `width` is `a` or more.
///
/// # Errors
///
/// [`Error::LengthMismatch`] where `out` has another number of elements, and [`Error::Device`].
pub fn relayout(x: &In<'_>, [n, a, b]: [usize; 3], width: usize, out: &mut Out<'_>) -> Result<Ran> {
    let count = |a: usize| n.checked_mul(a).and_then(|na| na.checked_mul(b));
    if count(a) != Some(x.count()) || count(width) != Some(out.count()) || width < a {
        let (expected, got) = (count(width.max(a)).unwrap_or(usize::MAX), out.count());
        return Err(Error::LengthMismatch { op: OP, argument: "out", expected, got });
    }
    if x.count() == 0 {
        return Ok(Ran::Composed(Why::Shape("x")));
    }
    if !x.is_contiguous() {
        return Ok(Ran::Composed(Why::Layout("x")));
    }
    if x.scalar_type() != out.scalar_type() {
        return Ok(Ran::Composed(Why::Dtype("out")));
    }
    #[cfg(feature = "cuda")]
    return cuda::relayout(x, [n, a, b], width, out);
    #[cfg(not(feature = "cuda"))]
    Ok(Ran::Composed(Why::Device))
}
