//! Rotary position embeddings, on a CPU: pairs of entries of each row are turned by angles whose cosines and sines are given.
//!
//! `(a, b)` becomes `(a · cos − b · sin, a · sin + b · cos)`, and turned back `(a · cos + b · sin, b · cos − a · sin)`, which is the gradient's way. Each product and each
//! sum is taken in f32 (f64 for f64), and the result rounded once. Contract: bit-exact, NaN by class.
//!
//! # Source
//!
//! RoFormer, arXiv:2104.09864.

mod host;
mod scalar;
#[cfg(feature = "candle")]
mod tensors;
#[cfg(test)]
mod tests;

pub use scalar::rotate_scalar;
#[cfg(feature = "candle")]
pub use tensors::rotated;

use crate::buffer::{In, Out, PlaceMut, Ran, ScalarType, Why};
use crate::simd::Isa;
use crate::{Error, Result};

/// Which two entries of a row are turned together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// The i-th of the first half with the i-th of the second.
    Halves,
    /// Each even entry with the next.
    Interleaved,
}

/// The direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// By the angles.
    Forth,
    /// By the negative angles.
    Back,
}

/// What is read. The entries of a row lie one after another; rows lie as strides say.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Rows of an even width, of any float type.
    pub x: &'a In<'a>,
    /// Of as many rows, of half the width: f64 beside f64, else f32.
    pub cos: &'a In<'a>,
    /// Likewise.
    pub sin: &'a In<'a>,
}

const OP: &str = "rope";

/// Writes the rows of `x`, turned, to `out` of their dimensions and type.
///
/// # Errors
///
/// [`Error::Operand`] for dimensions that do not fit.
pub fn rotate(inputs: Inputs<'_>, pairs: Pairs, turn: Turn, out: &mut Out<'_>) -> Result<Ran> {
    let Inputs { x, cos, sin } = inputs;
    let (Some((&width, outer)), true) = (x.dims().split_last(), x.dims() == out.dims()) else {
        return Err(unfit("x", format!("rows of the dimensions {:?}", out.dims()), x));
    };
    if !width.is_multiple_of(2) {
        return Err(unfit("x", "an even width".into(), x));
    }
    let half = [outer, &[width / 2]].concat();
    let wide = if x.scalar_type() == ScalarType::F64 { ScalarType::F64 } else { ScalarType::F32 };
    for (argument, angles) in [("cos", cos), ("sin", sin)] {
        if angles.dims() != half {
            return Err(unfit(argument, format!("the dimensions {half:?}"), angles));
        }
        if angles.scalar_type() != wide {
            return Ok(Ran::Composed(Why::Dtype(argument)));
        }
    }
    if x.scalar_type() != out.scalar_type() || !x.scalar_type().is_float() {
        return Ok(Ran::Composed(Why::Dtype("x")));
    }
    for (argument, x) in [("x", x), ("cos", cos), ("sin", sin)] {
        let apart = x.dims().last() > Some(&1) && x.strides().last() != Some(&1);
        if apart && x.count() > 0 {
            return Ok(Ran::Composed(Why::Layout(argument)));
        }
    }
    match out.place() {
        PlaceMut::Host(_) => Ok(host::rotate(Isa::best(), inputs, pairs, turn, out)),
        #[cfg(feature = "cuda")]
        PlaceMut::Device(_) => Ok(Ran::Composed(Why::Device)),
    }
}

fn unfit(argument: &'static str, expected: String, got: &In<'_>) -> Error {
    Error::Operand { op: OP, argument, expected, got: format!("{:?}", got.dims()) }
}
