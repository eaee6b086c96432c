//! One of two numbers for each element, on a CPU: `out[i] = if condition[i] ≠ 0 { a[i] } else { b[i] }`, whatever the strides of the three (0
//! where one is repeated).
//!
//! Contract: the number that is chosen, to the bit where it is of `out`'s type, else rounded once, to nearest even; what is not chosen does not matter.

mod host;
#[cfg(feature = "candle")]
mod tensors;
#[cfg(test)]
mod tests;

#[cfg(feature = "candle")]
pub use tensors::choice_of;

use crate::buffer::{In, Out, PlaceMut, Ran, ScalarType, Why};
use crate::simd::Isa;
use crate::{Error, Result};

const OP: &str = "choose";

/// Writes the choice for each element; all are of `out`'s dimensions, `condition` is of u8, `a` and `b` of any float type, of f64 only where
/// `out` is.
///
/// # Errors
///
/// [`Error::Operand`] for other dimensions.
pub fn choose(condition: &In<'_>, a: &In<'_>, b: &In<'_>, out: &mut Out<'_>) -> Result<Ran> {
    for (argument, x) in [("the condition", condition), ("a", a), ("b", b)] {
        if x.dims() != out.dims() {
            let expected = format!("the dimensions {:?}", out.dims());
            return Err(Error::Operand { op: OP, argument, expected, got: format!("{:?}", x.dims()) });
        }
    }
    for (argument, x) in [("a", a), ("b", b)] {
        let wide = x.scalar_type() == ScalarType::F64 && out.scalar_type() != ScalarType::F64;
        if wide || !x.scalar_type().is_float() {
            return Ok(Ran::Composed(Why::Dtype(argument)));
        }
    }
    match out.place() {
        PlaceMut::Host(_) => Ok(host::choose(Isa::best(), condition, a, b, out)),
        #[cfg(feature = "cuda")]
        PlaceMut::Device(_) => Ok(Ran::Composed(Why::Device)),
    }
}
