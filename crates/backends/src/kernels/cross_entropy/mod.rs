//! cross_entropy of rows of logits with class indices, forward and backward. No matrix of probabilities or of wider logits is
//! made: forward reads the logits once, backward reads them once and writes the gradient, in place where that is asked for.
//!
//! With `lse = log Σ exp(x)` over the row, target class `t`, smoothing `s` and `C` classes:
//! `loss = (1 − s) · (lse − x_t) + s / C · Σ (lse − x_c)`, and of the gradient `f` of the row's loss
//! `dx_c = f · exp(x_c − lse) − f · s / C − [c = t] · f · (1 − s)`.
//!
//! `lse` is kept in f64, so that a large maximum does not round the logarithm away; of f64 logits in two numbers, the maximum and
//! what is to be added to it. Elements are f32 inside (f64 for f64) and rounded once when they are stored. A row whose target is `ignore_index` has the loss 0 and the gradient 0, whatever it
//! holds; one whose factor `f` is 0 has the gradient 0. A target that is no class is an error on a CPU, and makes the loss and
//! the gradient of its row NaN on a GPU, where looking would make the host wait.
//!
//! Contract: `exp(x − lse)` within `2⁻²⁴ · (2 · |x − lse| + 4)` relatively (`lse` is subtracted in two parts), three roundings of `f`'s products beside it, and the
//! store; `lse` within `2⁻²³` absolutely (`C · 2⁻⁵²` relatively for f64), and the loss one rounding more. On a GPU exponentials of
//! 16-bit logits are within `2⁻²² + 2⁻²³ · |x − lse|` relatively, 0 where they are no normal f32, and `lse` of such within `2⁻²¹`. A row with NaN or +∞, or of −∞ alone, has the loss NaN and the gradient NaN.
//!
//! # Source
//!
//! `torch.nn.functional.cross_entropy`; the maximum that is corrected on the way is Milakov and Gimelshein's, Online
//! normalizer calculation for softmax, 2018.

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
pub use tensors::{Losses, gradient_in_place, gradient_of, losses_of, losses_then_gradient};

use crate::buffer::{In, Out, Place, PlaceMut, Ran, Rows, ScalarType, Why};
use crate::simd::Isa;
use crate::{Error, Result};

/// The loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossEntropy {
    /// The elements of a row.
    pub classes: usize,
    /// The target of rows that are left out.
    pub ignore_index: i64,
    /// The share of each target that is spread evenly over all classes, `0..=1`.
    pub label_smoothing: f64,
}

const OP: &str = "cross_entropy";

/// Writes the loss of each row (in f32, f64 for f64 logits) and its `lse` in f64: one number, or [two](lse_parts).
///
/// # Errors
///
/// [`Error::LengthMismatch`]; [`Error::Operand`] for a target in host memory that is no class; [`Error::Device`].
pub fn forward(
    loss: CrossEntropy,
    logits: &In<'_>,
    targets: &In<'_>,
    losses: &mut Out<'_>,
    lse: &mut Out<'_>,
) -> Result<Ran> {
    let Some(rows) = seen(loss, logits) else { return Ok(Ran::Composed(Why::Layout("logits"))) };
    Error::same_length(OP, "targets", rows.count, targets.count())?;
    Error::same_length(OP, "the losses", rows.count, losses.count())?;
    Error::same_length(OP, "lse", rows.count * lse_parts(logits.scalar_type()), lse.count())?;
    let wide = if logits.scalar_type() == ScalarType::F64 { ScalarType::F64 } else { ScalarType::F32 };
    if losses.scalar_type() != wide || lse.scalar_type() != ScalarType::F64 {
        return Ok(Ran::Composed(Why::Dtype("the losses")));
    }
    let Some(target_rows) = target_rows(targets) else { return Ok(Ran::Composed(Why::Dtype("targets"))) };
    if !ScalarType::are_floats_of_one_width(&[logits.scalar_type(), wide]) {
        return Ok(Ran::Composed(Why::Dtype("logits")));
    }
    match (logits.place(), targets.place()) {
        (Place::Host(x), Place::Host(targets)) => {
            host::forward(Isa::best(), loss, (x, rows), (targets, target_rows), losses, lse)
        }
        #[cfg(feature = "cuda")]
        (Place::Device(x), Place::Device(_)) => {
            cuda::forward(loss, (x, logits.scalar_type(), rows), targets, losses, lse)
        }
        #[cfg(feature = "cuda")]
        _ => Ok(Ran::Composed(Why::Device)),
    }
}

/// How many numbers `lse` of a row of such logits is: of f64 two, the maximum and what is to be added to it, next to each other.
pub fn lse_parts(logits: ScalarType) -> usize {
    if logits == ScalarType::F64 { 2 } else { 1 }
}

/// What [`backward`] reads beside the logits, one of each row.
#[derive(Clone, Copy, Debug)]
pub struct PerRow<'a> {
    /// The classes.
    pub targets: &'a In<'a>,
    /// What [`forward`] has left.
    pub lse: &'a In<'a>,
    /// The gradients of the losses, f32 or f64.
    pub factors: &'a In<'a>,
}

/// Writes the gradient of the logits, of any float type (f64 if they are). Without `logits`, `dx` holds them, and is
/// overwritten.
///
/// # Errors
///
/// As [`forward`].
pub fn backward(
    loss: CrossEntropy,
    logits: Option<&In<'_>>,
    per_row: PerRow<'_>,
    dx: &mut Out<'_>,
) -> Result<Ran> {
    let width = loss.classes;
    let in_place = || (width > 0 && dx.count().is_multiple_of(width)).then(|| dx.count() / width);
    let rows = match logits {
        Some(logits) => seen(loss, logits),
        None => in_place().map(|count| Rows { count, width, pitch: width }),
    };
    let Some(rows) = rows else { return Ok(Ran::Composed(Why::Layout("logits"))) };
    Error::same_length(OP, "dx", rows.count * width, dx.count())?;
    let PerRow { targets, lse, factors } = per_row;
    let of = logits.map_or(dx.scalar_type(), In::scalar_type);
    Error::same_length(OP, "lse", rows.count * lse_parts(of), lse.count())?;
    for (argument, each) in [("targets", targets), ("the factors", factors)] {
        Error::same_length(OP, argument, rows.count, each.count())?;
    }
    if !ScalarType::are_floats_of_one_width(&[of, dx.scalar_type()])
        || lse.scalar_type() != ScalarType::F64
        || !matches!(factors.scalar_type(), ScalarType::F32 | ScalarType::F64)
    {
        return Ok(Ran::Composed(Why::Dtype("logits")));
    }
    let (Some(_), Some(factor_rows)) = (target_rows(targets), factors.rows(1)) else {
        return Ok(Ran::Composed(Why::Dtype("targets")));
    };
    if !lse.is_contiguous() {
        return Ok(Ran::Composed(Why::Layout("lse")));
    }
    match dx.place() {
        PlaceMut::Host(_) => {
            let logits = logits.map(|x| (x.host_place(), rows));
            host::backward(Isa::best(), loss, logits, (per_row, factor_rows), dx)
        }
        #[cfg(feature = "cuda")]
        PlaceMut::Device(_) => cuda::backward(loss, logits, rows, (per_row, factor_rows), dx),
    }
}

/// [`forward`] and then [`backward`] in place of contiguous `logits`, of which each loss's gradient is `factor`, on a device.
#[cfg(feature = "cuda")]
fn both(
    loss: CrossEntropy,
    targets: &In<'_>,
    factor: f64,
    losses: &mut Out<'_>,
    logits: &mut Out<'_>,
) -> Result<Ran> {
    Error::same_length(OP, "targets", losses.count(), targets.count())?;
    Error::same_length(OP, "the logits", losses.count() * loss.classes, logits.count())?;
    let wide = if logits.scalar_type() == ScalarType::F64 { ScalarType::F64 } else { ScalarType::F32 };
    if losses.scalar_type() != wide || !logits.scalar_type().is_float() || target_rows(targets).is_none() {
        return Ok(Ran::Composed(Why::Dtype("the losses")));
    }
    cuda::both(loss, targets, factor, losses, logits)
}

fn seen(loss: CrossEntropy, logits: &In<'_>) -> Option<Rows> {
    if loss.classes == 0 || !logits.count().is_multiple_of(loss.classes) {
        return None;
    }
    logits.rows(loss.classes)
}

/// One class for each row, as integers that kernels know.
fn target_rows(targets: &In<'_>) -> Option<Rows> {
    matches!(targets.scalar_type(), ScalarType::I64 | ScalarType::U32 | ScalarType::U8)
        .then(|| targets.rows(1))
        .flatten()
}
