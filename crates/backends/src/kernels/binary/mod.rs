//! Sums, differences, products and quotients of two operands that are broadcast to one shape, on a CPU: `out[i] = a[i] ∘ b[i]`, whatever the strides of
//! the operands (0 where one is repeated).
//!
//! The operation is taken in f32, in f64 where the result is of f64, and rounded once, to nearest even. Contract: bit-exact, NaN by class.

mod host;
mod scalar;
#[cfg(feature = "candle")]
mod tensors;
#[cfg(test)]
pub(in crate::kernels) mod tests;

pub use scalar::binary_scalar;
#[cfg(feature = "candle")]
pub use tensors::binary_of;

use crate::Result;
#[cfg(feature = "cuda")]
use crate::buffer::Why;
use crate::buffer::{In, Out, PlaceMut, Ran};
use crate::simd::Isa;
use crate::simd::walk::{check_dims, check_types};

/// An operation on two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`.
    Plus,
    /// `a − b`.
    Minus,
    /// `a · b`.
    Times,
    /// `a / b`.
    Over,
}

const OP: &str = "binary";

/// Writes the operation on each element of `a` and `b`, both of `out`'s dimensions and of any float type, of f64 only where `out` is.
///
/// # Errors
///
/// [`Error::Operand`](crate::Error::Operand) for other dimensions.
pub fn binary(of: Binary, a: &In<'_>, b: &In<'_>, out: &mut Out<'_>) -> Result<Ran> {
    let operands = [("a", a), ("b", b)];
    check_dims(OP, operands, out)?;
    if let Some(why) = check_types(operands, out) {
        return Ok(Ran::Composed(why));
    }
    match out.place() {
        PlaceMut::Host(_) => Ok(host::binary(Isa::best(), of, a, b, out)),
        #[cfg(feature = "cuda")]
        PlaceMut::Device(_) => Ok(Ran::Composed(Why::Device)),
    }
}
