//! layer_norm and rms_norm over rows, forward and backward.
//!
//! `y = (x − mean) · rstd · weight + bias` with `rstd = 1 / √(Σ (x − mean)² / width + eps)`; rms_norm has no mean. Of the
//! gradient `g` of `y`, with `n = (x − mean) · rstd` and `h = g · weight`:
//! `dx = rstd · (h − Σ h / width − n · Σ h·n / width)`, `dweight = Σ g·n` and `dbias = Σ g` over the rows.
//!
//! Elements are f32 inside, whatever they are stored in (f64 for f64), and rounded once when they are stored. The saved
//! statistics are f64, three for each row: the mean, what an f64 loses of it (0 unless `x` is f64), and `rstd`. A mean is not
//! rounded to f32 before it is subtracted, so that 16777216 and 16777218 become −1 and 1, forward and backward.
//!
//! Contract, on a CPU: sums are f64 and off by at most `width · 2⁻⁵³ · Σ|t|` (compensated for f64); then `n` takes four
//! roundings to f32, and a result one more for each of its operations. On a GPU sums run in f32 over what a lane of a warp has of a
//! row, at most four elements one after another and eight such sums as a tree, and in f64 beyond: off by at most `6 · 2⁻²⁴ · Σ|t|`. The mean's are taken of what
//! is left of `x` once a first mean is subtracted, so the bound is one on the spread and not on the offset. Rows whose mean
//! square leaves `2⁻¹⁰⁰..2¹⁰⁰` are summed in f64. Sums over rows are f64 beyond 16 rows. f64 is summed in f64, not compensated, at another
//! size where squares overflow or vanish; a difference from the mean that f64 does not hold is infinite.
//!
//! A row with a NaN or an infinity is NaN (an infinity without a mean makes its row 0, and itself NaN). With `eps = 0` a
//! constant row is NaN.
//!
//! Results depend neither on the number of threads nor, on one kind of device, on the run: nothing is added atomically.
//!
//! # Source
//!
//! Ba, Kiros and Hinton, 2016; Zhang and Sennrich, 2019.

#[cfg(feature = "cuda")]
mod cuda;
mod host;
mod scalar;
#[cfg(feature = "candle")]
mod tensors;
#[cfg(test)]
pub(in crate::kernels) mod tests;
pub(in crate::kernels) mod wide;

pub(in crate::kernels) use host::parameter;
pub use scalar::{backward_scalar, forward_scalar};
#[cfg(feature = "candle")]
pub use tensors::{Gradients, Normalized, Wanted, gradients_of, value_of};

use crate::buffer::{In, Out, Place, Ran, Rows, ScalarType, Why};
use crate::simd::Isa;
use crate::{Error, Result};

/// What is subtracted from a row before it is scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Centre {
    /// The row's mean: layer_norm.
    Mean,
    /// Nothing: rms_norm.
    Zero,
}

/// A norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// layer_norm or rms_norm.
    pub centre: Centre,
    /// The elements of a row.
    pub width: usize,
    /// Added to the mean square.
    pub eps: f64,
}

/// Statistics saved of each row.
pub const STATISTICS: usize = 3;

/// What [`forward`] reads.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The elements.
    pub x: &'a In<'a>,
    /// Factors: `width`.
    pub weight: Option<&'a In<'a>>,
    /// Terms: `width`.
    pub bias: Option<&'a In<'a>>,
}

/// Where [`backward`] writes: to those that are wanted.
#[derive(Debug, Default)]
pub struct GradientsOut<'a, 'b> {
    /// The gradient of `x`.
    pub x: Option<&'a mut Out<'b>>,
    /// Added to it before it is rounded: contiguous, of its type.
    pub plus: Option<&'a In<'a>>,
    /// That of the weight.
    pub weight: Option<&'a mut Out<'b>>,
    /// That of the bias.
    pub bias: Option<&'a mut Out<'b>>,
}

const OP: &str = "norm";

/// Writes `y`, of `x`'s shape and of any float type (f64 if `x` is), and the statistics, `[rows, 3]` in f64.
///
/// # Errors
///
/// [`Error::LengthMismatch`] and, on a GPU, [`Error::Device`].
pub fn forward(norm: Norm, inputs: Inputs<'_>, y: &mut Out<'_>, statistics: &mut Out<'_>) -> Result<Ran> {
    let rows = match rows(norm, "x", inputs.x) {
        Ok(rows) => rows,
        Err(why) => return Ok(Ran::Composed(why)),
    };
    Error::same_length(OP, "y", rows.count * rows.width, y.count())?;
    Error::same_length(OP, "the statistics", rows.count * STATISTICS, statistics.count())?;
    for (argument, parameter) in [("weight", inputs.weight), ("bias", inputs.bias)] {
        if let Some(parameter) = parameter {
            Error::same_length(OP, argument, norm.width, parameter.count())?;
        }
    }
    if !ScalarType::are_floats_of_one_width(&[inputs.x.scalar_type(), y.scalar_type()])
        || statistics.scalar_type() != ScalarType::F64
    {
        return Ok(Ran::Composed(Why::Dtype("y")));
    }
    match inputs.x.place() {
        Place::Host(x) => Ok(host::forward(Isa::best(), norm, (x, rows), inputs, y, statistics)),
        #[cfg(feature = "cuda")]
        Place::Device(_) => cuda::forward(norm, rows, inputs, y, statistics),
    }
}

/// Writes the gradients that are wanted, from the gradient `dy` of `y`, of any float type (f64 if `x` is), and what
/// [`forward`] read and saved. Each is of any float type (f64 if `x` is), the sums over rows by way of f32.
///
/// # Errors
///
/// As [`forward`].
pub fn backward(
    norm: Norm,
    dy: &In<'_>,
    inputs: Inputs<'_>,
    statistics: &In<'_>,
    grads: GradientsOut<'_, '_>,
) -> Result<Ran> {
    let (x_rows, dy_rows) = match (rows(norm, "x", inputs.x), rows(norm, "dy", dy)) {
        (Ok(x), Ok(dy)) => (x, dy),
        (Err(why), _) | (_, Err(why)) => return Ok(Ran::Composed(why)),
    };
    Error::same_length(OP, "dy", x_rows.count, dy_rows.count)?;
    Error::same_length(OP, "the statistics", x_rows.count * STATISTICS, statistics.count())?;
    if !ScalarType::are_floats_of_one_width(&[inputs.x.scalar_type(), dy.scalar_type()])
        || statistics.scalar_type() != ScalarType::F64
    {
        return Ok(Ran::Composed(Why::Dtype("dy")));
    }
    if let Some(weight) = inputs.weight {
        Error::same_length(OP, "weight", norm.width, weight.count())?;
    }
    if let Some(dx) = &grads.x {
        Error::same_length(OP, "dx", x_rows.count * norm.width, dx.count())?;
        if !ScalarType::are_floats_of_one_width(&[inputs.x.scalar_type(), dx.scalar_type()]) {
            return Ok(Ran::Composed(Why::Dtype("dx")));
        }
    }
    if let (Some(plus), Some(dx)) = (grads.plus, &grads.x) {
        Error::same_length(OP, "plus", dx.count(), plus.count())?;
        if plus.scalar_type() != dx.scalar_type() || !plus.is_contiguous() {
            return Ok(Ran::Composed(Why::Dtype("plus")));
        }
    }
    for (argument, grad) in [("dweight", &grads.weight), ("dbias", &grads.bias)] {
        let Some(grad) = grad else { continue };
        Error::same_length(OP, argument, norm.width, grad.count())?;
        if !ScalarType::are_floats_of_one_width(&[inputs.x.scalar_type(), grad.scalar_type()]) {
            return Ok(Ran::Composed(Why::Dtype(argument)));
        }
    }
    match (inputs.x.place(), dy.place()) {
        (Place::Host(x), Place::Host(dy)) => {
            let operands =
                host::Operands { dy: (dy, dy_rows), x: (x, x_rows), weight: inputs.weight, statistics };
            Ok(host::backward(Isa::best(), norm, operands, grads))
        }
        #[cfg(feature = "cuda")]
        (Place::Device(_), Place::Device(slice)) => {
            cuda::backward(norm, (slice, dy.scalar_type(), dy_rows), x_rows, inputs, statistics, grads)
        }
        #[cfg(feature = "cuda")]
        _ => Ok(Ran::Composed(Why::Device)),
    }
}

fn rows(norm: Norm, argument: &'static str, x: &In<'_>) -> std::result::Result<Rows, Why> {
    if norm.width == 0 || !x.count().is_multiple_of(norm.width) {
        return Err(Why::Shape(argument));
    }
    x.rows(norm.width).ok_or(Why::Layout(argument))
}
