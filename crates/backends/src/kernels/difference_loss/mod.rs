//! Losses of a difference `d = x − t`, element by element: `d²`, `|d|`, and the two that are one near 0 and the other beyond.
//!
//! [`losses`] are those of single elements, [`sums`] are of [`RUN`] elements each, for a mean that never has the losses in memory, and
//! [`gradient`] is that of `x`: the slope at `d`, times the gradient of the element's loss or of the reduced one, divided by a number.
//!
//! The difference and all that follows are taken in f32, in f64 where `x` or `t` is of f64, and rounded once to the result; sums are
//! taken in f64. NaN gives NaN, in the slope too. Contract: bit-exact on every device but for the order of sums.

#[cfg(feature = "cuda")]
mod cuda;
mod host;
mod scalar;
#[cfg(feature = "candle")]
mod tensors;
#[cfg(test)]
mod tests;

#[cfg(feature = "candle")]
pub use tensors::{gradient_of, losses_of, sums_of};

use crate::buffer::{In, Out, PlaceMut, Ran, ScalarType, Why};
use crate::{Error, Result};

const OP: &str = "difference_loss";

/// A function of a difference `d`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum DifferenceLoss {
    /// `d²`.
    Square,
    /// `|d|`, with slope 0 at 0.
    Absolute,
    /// `d · (d/β) / 2` where `|d| < β`, and `|d| − β/2` elsewhere.
    SmoothL1 {
        /// Where it turns, above 0.
        beta: f64,
    },
    /// `d · d/2` where `|d| < δ`, and `δ (|d| − δ/2)` elsewhere.
    Huber {
        /// Where it turns, above 0.
        delta: f64,
    },
}

/// Elements that one sum is of.
pub const RUN: usize = 16_384;

/// `loss(x − t)` of each element.
///
/// # Errors
///
/// [`Error::LengthMismatch`], [`Error::Device`].
pub fn losses(loss: DifferenceLoss, x: &In<'_>, t: &In<'_>, out: &mut Out<'_>) -> Result<Ran> {
    check_length("the result", x.count(), out.count())?;
    if let Some(why) = refused(x, t, out)? {
        return Ok(Ran::Composed(why));
    }
    match out.place() {
        PlaceMut::Host(_) => host::losses(loss, x, t, out),
        #[cfg(feature = "cuda")]
        PlaceMut::Device(_) => cuda::losses(loss, x, t, out),
    }
}

/// The sums of `loss(x − t)` over runs of [`RUN`] elements, the last of what is left, in f64. f64 is not taken: its sums need what their
/// additions lose.
///
/// # Errors
///
/// As [`losses`].
pub fn sums(loss: DifferenceLoss, x: &In<'_>, t: &In<'_>, out: &mut Out<'_>) -> Result<Ran> {
    check_length("the result", x.count().div_ceil(RUN), out.count())?;
    if let Some(why) = refused(x, t, out)? {
        return Ok(Ran::Composed(why));
    }
    if wide(x, t) || out.scalar_type() != ScalarType::F64 {
        return Ok(Ran::Composed(Why::Dtype("x")));
    }
    match out.place() {
        PlaceMut::Host(_) => host::sums(loss, x, t, out),
        #[cfg(feature = "cuda")]
        PlaceMut::Device(_) => cuda::sums(loss, x, t, out),
    }
}

/// The gradient of `x`: `loss′(x − t) · (grad / divisor)`, where `grad` has one element, or as many as `x`.
///
/// # Errors
///
/// As [`losses`].
pub fn gradient(
    loss: DifferenceLoss,
    x: &In<'_>,
    t: &In<'_>,
    grad: &In<'_>,
    divisor: f64,
    out: &mut Out<'_>,
) -> Result<Ran> {
    check_length("the result", x.count(), out.count())?;
    if grad.count() != 1 {
        check_length("grad", x.count(), grad.count())?;
    }
    if let Some(why) = refused(x, t, out)? {
        return Ok(Ran::Composed(why));
    }
    if !grad.scalar_type().is_float() {
        return Ok(Ran::Composed(Why::Dtype("grad")));
    }
    if !grad.is_contiguous() {
        return Ok(Ran::Composed(Why::Layout("grad")));
    }
    match out.place() {
        PlaceMut::Host(_) => host::gradient(loss, x, t, grad, divisor, out),
        #[cfg(feature = "cuda")]
        PlaceMut::Device(_) => cuda::gradient(loss, x, t, grad, divisor, out),
    }
}

/// Whether arithmetic is in f64.
fn wide(x: &In<'_>, t: &In<'_>) -> bool {
    x.scalar_type() == ScalarType::F64 || t.scalar_type() == ScalarType::F64
}

/// Why no kernel takes these operands, if none does.
fn refused(x: &In<'_>, t: &In<'_>, out: &Out<'_>) -> Result<Option<Why>> {
    check_length("t", x.count(), t.count())?;
    for (argument, of) in [("x", x), ("t", t)] {
        if !of.scalar_type().is_float() {
            return Ok(Some(Why::Dtype(argument)));
        }
        if !of.is_contiguous() {
            return Ok(Some(Why::Layout(argument)));
        }
    }
    // An f64 that becomes 16 bits would be rounded twice.
    let fits = out.scalar_type().is_float() && !(wide(x, t) && out.scalar_type().bytes() == 2);
    Ok((!fits).then_some(Why::Dtype("the result")))
}

fn check_length(argument: &'static str, expected: usize, got: usize) -> Result<()> {
    match expected == got {
        true => Ok(()),
        false => Err(Error::LengthMismatch { op: OP, argument, expected, got }),
    }
}
