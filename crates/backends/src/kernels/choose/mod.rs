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

use crate::Result;
#[cfg(feature = "cuda")]
use crate::buffer::Why;
use crate::buffer::{In, Out, PlaceMut, Ran};
use crate::simd::Isa;
use crate::simd::walk::{check_dims, check_types};

const OP: &str = "choose";

/// Writes the choice for each element; all are of `out`'s dimensions, `condition` is of u8, `a` and `b` of any float type, of f64 only where
/// `out` is.
///
/// # Errors
///
/// [`Error::Operand`](crate::Error::Operand) for other dimensions.
pub fn choose(condition: &In<'_>, a: &In<'_>, b: &In<'_>, out: &mut Out<'_>) -> Result<Ran> {
    check_dims(OP, [("the condition", condition), ("a", a), ("b", b)], out)?;
    if let Some(why) = check_types([("a", a), ("b", b)], out) {
        return Ok(Ran::Composed(why));
    }
    match out.place() {
        PlaceMut::Host(_) => Ok(host::choose(Isa::best(), condition, a, b, out)),
        #[cfg(feature = "cuda")]
        PlaceMut::Device(_) => Ok(Ran::Composed(Why::Device)),
    }
}
