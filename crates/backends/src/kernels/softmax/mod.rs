//! softmax and log_softmax over rows, forward, and backward from the value.
//!
//! With `m` the row's maximum and `s = Σ exp(x − m)`: `softmax(x) = exp(x − m) / s` and
//! `log_softmax(x) = (x − m) − log s`. Of the gradient `g` of the value `y`: `dx = y · (g − Σ g·y)`, and
//! `dx = g − exp(y) · Σ g` of the logarithm.
//!
//! Elements are f32 inside (f64 for f64), and rounded once when they are stored; sums are f64, on a GPU beyond the elements
//! that one load brings. A `y` of 16 bits has lost what the gradient needs: keep one of f32.
//!
//! Contract: softmax within 4 · 2⁻²⁴ of the value, relatively, beside the rounding of `x − m` (`2⁻²⁴ · |x − m|`), and the
//! store; log_softmax within `2⁻²⁴ · (2 · |x − m| + 2 · |log s| + 4)`; gradients within `2⁻²⁴ · 6 · Σ|t|` of their terms. In
//! f64 the same with `2⁻⁵³`.
//!
//! A row with a NaN or +∞, or of −∞ alone, is NaN. Of a row that is [`Seen`] in part, what lies beyond is not read, and written
//! as 0.

#[cfg(feature = "cuda")]
mod cuda;
mod host;
mod scalar;
#[cfg(feature = "candle")]
mod tensors;
#[cfg(test)]
mod tests;

pub use scalar::{backward_scalar, forward_scalar};
#[cfg(feature = "candle")]
pub use tensors::{gradient_of, value_of};

use crate::buffer::{In, Out, Place, Ran, ScalarType, Why};
use crate::simd::Isa;
use crate::{Error, Result};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The shares.
    Softmax,
    /// Their logarithms.
    LogSoftmax,
}

/// How much of each row counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// All of it.
    Whole,
    /// Up to its diagonal: rows are those of bands of so many, one after another, each cut from a matrix. Of row `i` of that matrix
    /// the first `i + 1` elements count, or all where there are fewer.
    Causal {
        /// The rows of a band.
        rows: usize,
        /// Which row of its matrix a band begins with.
        first: usize,
    },
}

impl Seen {
    /// How many elements of `row`, which has `width`.
    fn of(self, row: usize, width: usize) -> usize {
        match self {
            Self::Whole => width,
            Self::Causal { rows, first } => {
                width.min((row % rows.max(1)).saturating_add(first).saturating_add(1))
            }
        }
    }
}

const OP: &str = "softmax";

/// Writes the value for rows of `width`, of any float type (f64 if `x` is).
///
/// # Errors
///
/// [`Error::LengthMismatch`] and, on a GPU, [`Error::Device`].
pub fn forward(form: Form, seen: Seen, width: usize, x: &In<'_>, y: &mut Out<'_>) -> Result<Ran> {
    if width == 0 || !x.count().is_multiple_of(width) {
        return Ok(Ran::Composed(Why::Shape("x")));
    }
    let Some(rows) = x.rows(width) else { return Ok(Ran::Composed(Why::Layout("x"))) };
    Error::same_length(OP, "y", x.count(), y.count())?;
    if !ScalarType::are_floats_of_one_width(&[x.scalar_type(), y.scalar_type()]) {
        return Ok(Ran::Composed(Why::Dtype("x")));
    }
    match x.place() {
        Place::Host(x) => Ok(host::forward(Isa::best(), form, seen, (x, rows), y)),
        #[cfg(feature = "cuda")]
        Place::Device(slice) => cuda::forward(form, seen, (slice, x.scalar_type(), rows), y),
    }
}

/// Writes the gradient `dx` for rows of `width` from that of the value and the value `y`; all of any float type (f64 if one
/// is).
///
/// # Errors
///
/// As [`forward`].
pub fn backward(
    form: Form,
    seen: Seen,
    width: usize,
    dy: &In<'_>,
    y: &In<'_>,
    dx: &mut Out<'_>,
) -> Result<Ran> {
    if width == 0 || !y.count().is_multiple_of(width) {
        return Ok(Ran::Composed(Why::Shape("y")));
    }
    Error::same_length(OP, "dy", y.count(), dy.count())?;
    Error::same_length(OP, "dx", y.count(), dx.count())?;
    let (Some(y_rows), Some(dy_rows)) = (y.rows(width), dy.rows(width)) else {
        return Ok(Ran::Composed(Why::Layout("y or dy")));
    };
    if !ScalarType::are_floats_of_one_width(&[y.scalar_type(), dy.scalar_type(), dx.scalar_type()]) {
        return Ok(Ran::Composed(Why::Dtype("dy")));
    }
    match (dy.place(), y.place()) {
        (Place::Host(dy), Place::Host(y)) => {
            Ok(host::backward(Isa::best(), form, seen, (dy, dy_rows), (y, y_rows), dx))
        }
        #[cfg(feature = "cuda")]
        (Place::Device(dy_slice), Place::Device(y_slice)) => {
            let dy = (dy_slice, dy.scalar_type(), dy_rows);
            cuda::backward(form, seen, dy, (y_slice, y.scalar_type(), y_rows), dx)
        }
        #[cfg(feature = "cuda")]
        _ => Ok(Ran::Composed(Why::Device)),
    }
}
