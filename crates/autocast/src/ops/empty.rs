//! Values to which no gradient can reach back: those without elements, and those of inputs without elements. candle gives
//! the first of two empty tensors as their sum, so that the second drops out of the graph, and launches kernels of no
//! threads for empty tensors on a GPU, which is an error there.

use candle_core::{DType, Tensor};

use super::record::record;
use crate::Result;

/// `value` in the graph, with a gradient of zeros for each of `inputs`: either it has no elements, or none of them has.
pub(crate) fn without_gradient(op: &'static str, inputs: &[&Tensor], value: Tensor) -> Result<Tensor> {
    inputs.iter().try_fold(value, |value, input| {
        let plain = value.detach();
        record(op, [&value, input], plain, move |_, _, [value, input]| {
            Ok([value.zeros_like()?, input.zeros_like()?])
        })
    })
}

/// What an op of `inputs` comes to if its result has no elements.
pub(crate) fn of_no_elements(
    op: &'static str,
    inputs: &[&Tensor],
    dims: &[usize],
    dtype: DType,
) -> Result<Option<Tensor>> {
    match (dims.contains(&0), inputs) {
        (true, [first, ..]) => {
            without_gradient(op, inputs, Tensor::zeros(dims, dtype, first.device())?).map(Some)
        }
        _ => Ok(None),
    }
}
