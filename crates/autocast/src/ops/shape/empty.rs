//! Values to which no gradient can reach back: those without elements, and those of inputs without elements. candle gives
//! the first of two empty tensors as their sum, so that the second drops out of the graph, and launches kernels of no
//! threads for empty tensors on a GPU, which is an error there.

use candle_core::{DType, Shape, Tensor};

use crate::Result;
use crate::graph::{Backward, Op, record};

/// `value` in the graph, with a gradient of zeros for each of `inputs`: either it has no elements, or none of them has.
pub(crate) fn without_gradient(op: &'static str, inputs: &[&Tensor], value: Tensor) -> Result<Tensor> {
    let zeros = inputs.iter().map(|t| (t.shape().clone(), t.dtype())).collect();
    record(Nothing { op, zeros }, inputs, value)
}

struct Nothing {
    op: &'static str,
    /// The inputs' shapes and dtypes.
    zeros: Vec<(Shape, DType)>,
}

impl Op for Nothing {
    fn name(&self) -> &'static str {
        self.op
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let device = cx.grad().device();
        self.zeros.iter().map(|(shape, dtype)| Ok(Some(Tensor::zeros(shape, *dtype, device)?))).collect()
    }
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
