//! Rows and their losses: what weighs nothing is left out by choice, since a product would make NaN of `0 · inf`.

use candle_core::{DType, Device, Tensor};

use super::reduction::Reduction;
use crate::Result;
use crate::ops::shape::empty::without_gradient;
use crate::plain::{times, zero_where};
use crate::total::total;

/// `x · weight`, and 0 where the weight, which broadcasts to `x`, is 0.
pub(super) fn weighed(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let product = times(x, weight)?;
    let nothing = weight.eq(0.)?;
    // On a CPU looking costs less than a choice at every element.
    if x.device().is_cpu() && !nothing.flatten_all()?.to_vec1::<u8>()?.contains(&1) {
        return Ok(product);
    }
    zero_where(&nothing, &product)
}

/// What the gradient of a reduced loss is multiplied by to give a row's.
pub(super) enum PerRow {
    /// The gradient has an entry for each row.
    Own,
    /// The gradient is one number, to be multiplied by this one.
    Shared(Tensor),
}

/// The reduced loss, in the shape of the targets where each is kept.
pub(super) fn reduce_rows(
    losses: &Tensor,
    weights: &Tensor,
    reduction: Reduction,
    target_dims: &[usize],
) -> Result<(Tensor, PerRow)> {
    Ok(match reduction {
        Reduction::None => (losses.reshape(target_dims)?, PerRow::Own),
        Reduction::Sum | Reduction::BatchMean => {
            let one = Tensor::ones((), losses.dtype(), losses.device())?;
            let share = (one / reduction.divisor(target_dims))?;
            ((all(losses)? * &share)?, PerRow::Shared(share))
        }
        Reduction::Mean => {
            let weight = all(weights)?;
            let share = weight.recip()?;
            let value = (all(losses)? * &share)?;
            // No row has a part in a mean over nothing.
            let share = weight.eq(0.)?.where_cond(&share.zeros_like()?, &share)?;
            (value, PerRow::Shared(share))
        }
    })
}

/// The sum of all elements, a scalar.
fn all(x: &Tensor) -> Result<Tensor> {
    let dims: Vec<usize> = (0..x.rank()).collect();
    Ok(total(x, &dims)?.reshape(())?)
}

/// The gradient of each row's loss, `(rows, 1)`.
pub(super) fn row_gradient(grad: &Tensor, per_row: &PerRow, rows: usize) -> Result<Tensor> {
    Ok(match per_row {
        PerRow::Own => grad.reshape((rows, 1))?,
        PerRow::Shared(share) => (grad * share)?.reshape((1, 1))?.broadcast_as((rows, 1))?.contiguous()?,
    })
}

/// The loss of no row at all.
pub(super) fn over_nothing(
    op: &'static str,
    inputs: &[&Tensor],
    dtype: DType,
    reduction: Reduction,
    target_dims: &[usize],
) -> Result<Tensor> {
    let device = inputs[0].device();
    let value = match reduction {
        Reduction::None => Tensor::zeros(target_dims, dtype, device)?,
        _ => {
            let value = 0. / reduction.divisor(target_dims);
            Tensor::full(value, (), &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?
        }
    };
    without_gradient(op, inputs, value)
}
