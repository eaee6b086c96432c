//! group_norm of `(samples, channels, positions)`, forward and backward, on a CPU: each of `groups` equal runs of a sample's channels
//! is normalised by itself, and then each channel is scaled and moved.
//!
//! `y = (x − mean) · rstd · weight + bias` with `rstd = 1 / √(Σ (x − mean)² / width + eps)` over the `width` elements of a group. Of the gradient
//! `g` of `y`, with `n = (x − mean) · rstd` and the sums `A = Σ g` and `B = Σ g·n` over a sample's channel:
//! `dx = rstd · (g · weight − Σ weight·A / width − n · Σ weight·B / width)`, the sums over the channels of the group; `dweight = Σ B` and
//! `dbias = Σ A` over the samples. So a group is gone through twice, and all sums come of the first time.
//!
//! Elements are f32 inside, whatever they are stored in (f64 for f64), and rounded once when they are stored. The saved statistics are those
//! of [`norm`](super::norm), three for each group: the mean, what an f64 loses of it (0 unless `x` is f64), and `rstd`.
//!
//! Contract: sums over a group's or a channel's elements are f64 and off by at most `width · 2⁻⁵³ · Σ|t|` (compensated for f64), sums of them f64; then `n` takes
//! four roundings to f32 (f64), and a result one more for each of its operations. A group with a NaN or an infinity is NaN. With `eps = 0` a
//! constant group is NaN. Results do not depend on the number of threads.
//!
//! # Source
//!
//! Wu and He, 2018.

mod arithmetic;
mod host;
mod scalar;
#[cfg(feature = "candle")]
mod tensors;
#[cfg(test)]
mod tests;

pub use scalar::{backward_scalar, forward_scalar};
#[cfg(feature = "candle")]
pub use tensors::{Gradients, Normalized, Wanted, gradients_of, value_of};

pub use super::norm::Inputs;
use super::norm::STATISTICS;
use crate::buffer::{In, Out, Place, Ran, ScalarType, Why};
use crate::simd::Isa;
use crate::{Error, Result};

/// A group norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNorm {
    /// Groups of a sample, a divisor of its channels.
    pub groups: usize,
    /// Channels of a sample.
    pub channels: usize,
    /// Elements of a channel, which lie one after another.
    pub positions: usize,
    /// Added to the mean square.
    pub eps: f64,
}

impl GroupNorm {
    /// The channels of a group.
    pub fn channels_of_a_group(&self) -> usize {
        self.channels / self.groups.max(1)
    }

    /// The elements of a group.
    pub fn width(&self) -> usize {
        self.channels_of_a_group() * self.positions
    }

    /// The groups of `count` elements, where they are whole samples of some.
    fn groups_of(&self, count: usize) -> Option<usize> {
        let width = self.width();
        let whole = width > 0 && self.channels.is_multiple_of(self.groups);
        (whole && count.is_multiple_of(width * self.groups)).then(|| count / width)
    }
}

/// Where [`backward`] writes: to those that are wanted.
#[derive(Debug, Default)]
pub struct GradientsOut<'a, 'b> {
    /// The gradient of `x`.
    pub x: Option<&'a mut Out<'b>>,
    /// That of the weight.
    pub weight: Option<&'a mut Out<'b>>,
    /// That of the bias.
    pub bias: Option<&'a mut Out<'b>>,
}

const OP: &str = "group_norm";

/// Writes `y`, of `x`'s shape and of any float type (f64 if `x` is), and the statistics, `[samples · groups, 3]` in f64. Inputs are
/// contiguous, weight and bias of an element for each channel.
///
/// # Errors
///
/// [`Error::LengthMismatch`].
pub fn forward(
    norm: GroupNorm,
    inputs: Inputs<'_>,
    y: &mut Out<'_>,
    statistics: &mut Out<'_>,
) -> Result<Ran> {
    let Some(groups) = norm.groups_of(inputs.x.count()) else { return Ok(Ran::Composed(Why::Shape("x"))) };
    Error::same_length(OP, "y", inputs.x.count(), y.count())?;
    Error::same_length(OP, "the statistics", groups * STATISTICS, statistics.count())?;
    for (argument, parameter) in [("weight", inputs.weight), ("bias", inputs.bias)] {
        if let Some(parameter) = parameter {
            Error::same_length(OP, argument, norm.channels, parameter.count())?;
        }
    }
    if !ScalarType::are_floats_of_one_width(&[inputs.x.scalar_type(), y.scalar_type()]) {
        return Ok(Ran::Composed(Why::Dtype("y")));
    }
    match inputs.x.place() {
        Place::Host(_) => Ok(host::forward(Isa::best(), norm, inputs, y, statistics)),
        #[cfg(feature = "cuda")]
        Place::Device(_) => Ok(Ran::Composed(Why::Device)),
    }
}

/// Writes the gradients that are wanted, from the gradient `dy` of `y`, of any float type (f64 if `x` is) and contiguous, and what [`forward`]
/// read and saved. Each is of any float type (f64 if `x` is), the sums over samples by way of f32.
///
/// # Errors
///
/// As [`forward`].
pub fn backward(
    norm: GroupNorm,
    dy: &In<'_>,
    inputs: Inputs<'_>,
    statistics: &In<'_>,
    grads: GradientsOut<'_, '_>,
) -> Result<Ran> {
    let x = inputs.x;
    let Some(groups) = norm.groups_of(x.count()) else { return Ok(Ran::Composed(Why::Shape("x"))) };
    Error::same_length(OP, "dy", x.count(), dy.count())?;
    Error::same_length(OP, "the statistics", groups * STATISTICS, statistics.count())?;
    if let Some(weight) = inputs.weight {
        Error::same_length(OP, "weight", norm.channels, weight.count())?;
    }
    if !ScalarType::are_floats_of_one_width(&[x.scalar_type(), dy.scalar_type()]) {
        return Ok(Ran::Composed(Why::Dtype("dy")));
    }
    let outputs = [
        ("dx", &grads.x, x.count()),
        ("dweight", &grads.weight, norm.channels),
        ("dbias", &grads.bias, norm.channels),
    ];
    for (argument, grad, expected) in outputs {
        let Some(grad) = grad else { continue };
        Error::same_length(OP, argument, expected, grad.count())?;
        if !ScalarType::are_floats_of_one_width(&[x.scalar_type(), grad.scalar_type()]) {
            return Ok(Ran::Composed(Why::Dtype(argument)));
        }
    }
    match x.place() {
        Place::Host(_) => Ok(host::backward(Isa::best(), norm, dy, inputs, statistics, grads)),
        #[cfg(feature = "cuda")]
        Place::Device(_) => Ok(Ran::Composed(Why::Device)),
    }
}
