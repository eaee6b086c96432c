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

use crate::buffer::{In, Out, PlaceMut, Ran, ScalarType, Why};
use crate::simd::Isa;
use crate::{Error, Result};

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
/// [`Error::Operand`] for other dimensions.
pub fn binary(of: Binary, a: &In<'_>, b: &In<'_>, out: &mut Out<'_>) -> Result<Ran> {
    for (argument, x) in [("a", a), ("b", b)] {
        if x.dims() != out.dims() {
            let expected = format!("the dimensions {:?}", out.dims());
            return Err(Error::Operand { op: OP, argument, expected, got: format!("{:?}", x.dims()) });
        }
        let wide = x.scalar_type() == ScalarType::F64 && out.scalar_type() != ScalarType::F64;
        if wide || !x.scalar_type().is_float() {
            return Ok(Ran::Composed(Why::Dtype(argument)));
        }
    }
    match out.place() {
        PlaceMut::Host(_) => Ok(host::binary(Isa::best(), of, a, b, out)),
        #[cfg(feature = "cuda")]
        PlaceMut::Device(_) => Ok(Ran::Composed(Why::Device)),
    }
}
