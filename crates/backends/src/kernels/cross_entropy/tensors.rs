//! The same for candle's tensors: `[rows, classes]` logits, and one target of each row. What they return is part of no graph.

use super::{CrossEntropy, OP, PerRow, backward, forward};
use crate::Result;
use crate::bridge::{candle, in_rows, run, update};
use crate::buffer::{In, Ran, Why};
use candle_core::{DType, Shape, Tensor};

/// What [`losses_of`] returns, one of each row.
#[derive(Clone, Debug)]
pub struct Losses {
    /// f32, f64 for f64 logits.
    pub losses: Tensor,
    /// `log Σ exp(x)` in f64 for [`gradient_of`], for f64 logits in two numbers.
    pub lse: Tensor,
}

/// The losses of all rows. `None` where no kernel takes the call: other devices and dtypes, no class.
///
/// # Shapes
///
/// The dimensions of `logits` multiply to rows · classes, the last being the classes; those of `targets` to the rows.
///
/// # Errors
///
/// [`Error::LengthMismatch`](crate::Error::LengthMismatch), [`Error::Operand`](crate::Error::Operand) for tensors on
/// different devices and, on a CPU, for a target that is no class; what the device reports.
pub fn losses_of(loss: CrossEntropy, logits: &Tensor, targets: &Tensor) -> Result<Option<Losses>> {
    if loss.classes == 0 {
        return Ok(None);
    }
    let (logits, targets) = (in_rows(OP, logits, loss.classes)?, in_rows(OP, targets, 1)?);
    let rows = logits.elem_count() / loss.classes;
    let (wide, parts) = if logits.dtype() == DType::F64 { (DType::F64, 2) } else { (DType::F32, 1) };
    let outputs = [(Shape::from(rows), wide), (Shape::from((rows, parts)), DType::F64)];
    let call = run(OP, &[&logits, &targets], &outputs, |ins, outs| match (ins, outs) {
        ([logits, targets], [losses, lse]) => forward(loss, logits, targets, losses, lse),
        _ => Ok(Ran::Composed(Why::Shape("logits"))),
    })?;
    Ok(call.ran().map(|mut tensors| {
        let lse = tensors.remove(1);
        Losses { losses: tensors.remove(0), lse }
    }))
}

/// The gradient of the logits in the dtype `out`, from those of the losses: `factors`, in f32 or f64, one of each row or
/// one that is broadcast. `None` as for [`losses_of`].
///
/// # Errors
///
/// As [`losses_of`].
pub fn gradient_of(
    loss: CrossEntropy,
    logits: &Tensor,
    targets: &Tensor,
    lse: &Tensor,
    factors: &Tensor,
    out: DType,
) -> Result<Option<Tensor>> {
    if loss.classes == 0 {
        return Ok(None);
    }
    let logits = in_rows(OP, logits, loss.classes)?;
    let (targets, factors) = (in_rows(OP, targets, 1)?, in_rows(OP, factors, 1)?);
    let lse = lse.contiguous().map_err(candle(OP))?;
    let outputs = [(logits.shape().clone(), out)];
    let call = run(OP, &[&targets, &lse, &factors, &logits], &outputs, |ins, outs| match (ins, outs) {
        ([rows @ .., logits], [dx]) => match per_row(rows) {
            Some(rows) => backward(loss, Some(logits), rows, dx),
            None => Ok(Ran::Composed(Why::Shape("targets"))),
        },
        _ => Ok(Ran::Composed(Why::Shape("logits"))),
    })?;
    Ok(call.ran().and_then(|mut outputs| outputs.pop()))
}

/// Overwrites contiguous `logits` with their gradient, and tells whether a kernel did. As [`gradient_of`] otherwise.
///
/// # Errors
///
/// As [`losses_of`], and [`Error::Operand`](crate::Error::Operand) where another tensor shares the logits' storage.
pub fn gradient_in_place(
    loss: CrossEntropy,
    logits: &Tensor,
    targets: &Tensor,
    lse: &Tensor,
    factors: &Tensor,
) -> Result<Ran> {
    let (targets, factors) = (in_rows(OP, targets, 1)?, in_rows(OP, factors, 1)?);
    let lse = lse.contiguous().map_err(candle(OP))?;
    update(OP, logits, &[&targets, &lse, &factors], |ins, dx| match per_row(ins) {
        Some(rows) => backward(loss, None, rows, dx),
        None => Ok(Ran::Composed(Why::Shape("targets"))),
    })
}

/// The losses of all rows, whose contiguous logits are overwritten with their gradient where each loss's is `factor`. `None` as for
/// [`losses_of`], with the logits as they were.
///
/// On a GPU logits that were read are read again while they are in its cache.
///
/// # Errors
///
/// As [`gradient_in_place`].
pub fn losses_then_gradient(
    loss: CrossEntropy,
    logits: &Tensor,
    targets: &Tensor,
    factor: f64,
) -> Result<Option<Tensor>> {
    if loss.classes == 0 {
        return Ok(None);
    }
    let rows = logits.elem_count() / loss.classes;
    let wide = if logits.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    #[cfg(feature = "cuda")]
    if logits.device().is_cuda() {
        let targets = in_rows(OP, targets, 1)?;
        let call = run(OP, &[&targets], &[(Shape::from(rows), wide)], |_, losses| match losses {
            [losses] => update(OP, logits, &[&targets], |ins, logits| {
                super::both(loss, &ins[0], factor, losses, logits)
            }),
            _ => Ok(Ran::Composed(Why::Shape("losses"))),
        })?;
        return Ok(call.ran().and_then(|mut losses| losses.pop()));
    }
    let Some(Losses { losses, lse }) = losses_of(loss, logits, targets)? else { return Ok(None) };
    let factor =
        Tensor::full(factor, 1, logits.device()).and_then(|one| one.to_dtype(wide)?.broadcast_as(rows));
    Ok(match gradient_in_place(loss, logits, targets, &lse, &factor.map_err(candle(OP))?)? {
        Ran::Kernel(_) => Some(losses),
        Ran::Composed(_) => None,
    })
}

fn per_row<'a>(ins: &'a [In<'a>]) -> Option<PerRow<'a>> {
    match ins {
        [targets, lse, factors] => Some(PerRow { targets, lse, factors }),
        _ => None,
    }
}
