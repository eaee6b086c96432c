//! `linear`: the product with a weight matrix, and its bias.

use candle_core::{DType, Tensor};

use super::product::{product, product_plus_row};
use crate::dtypes::same_dtype;
use crate::graph::{Backward, Op, Value, record};
use crate::ops::pointwise::bias::add_bias;
use crate::ops::shape::broadcast::sum_to_vector;
use crate::ops::shape::size::check_size;
use crate::region::cast_inputs;
use crate::{Error, Result};

/// `input · weightᵀ + bias`.
///
/// # Shapes
///
/// `input` is `(.., in)`, `weight` is `(out, in)`, `bias` is `(out)`; the result is `(.., out)`.
///
/// # Errors
///
/// [`Error::InvalidArgument`] where these do not fit or the dtypes differ after the region's rule was applied.
///
/// # Source
///
/// `torch.nn.functional.linear`.
pub fn linear(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    const OP: &str = "linear";
    let (input, weight, bias) = match bias {
        None => {
            let [input, weight] = cast_inputs(OP, [input, weight])?;
            same_dtype(OP, [("input", &input), ("weight", &weight)])?;
            (input, weight, None)
        }
        Some(bias) => {
            let [input, weight, bias] = cast_inputs(OP, [input, weight, bias])?;
            same_dtype(OP, [("input", &input), ("weight", &weight), ("bias", &bias)])?;
            (input, weight, Some(bias))
        }
    };
    affine_map(OP, &input, &weight, bias.as_ref())
}

/// [`linear`] for `op`, whose inputs have one dtype already.
pub(crate) fn affine_map(op: &str, input: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let &[out_features, in_features] = weight.dims() else {
        return Err(Error::shape(op, "weight", weight.dims(), "(out, in)"));
    };
    let Some((&last, leading)) = input.dims().split_last() else {
        return Err(Error::shape(op, "input", input.dims(), format!("(.., {in_features})")));
    };
    if last != in_features {
        return Err(Error::shape(op, "input", input.dims(), format!("(.., {in_features})")));
    }
    if let Some(bias) = bias
        && bias.dims() != [out_features]
    {
        return Err(Error::shape(op, "bias", bias.dims(), format!("[{out_features}]")));
    }

    let mut dims = leading.to_vec();
    dims.push(out_features);
    check_size(op, &dims, input.dtype())?;
    if input.elem_count() == 0 || weight.elem_count() == 0 {
        let rows = leading.iter().product::<usize>();
        let flat = product(&input.reshape((rows, in_features))?, &weight.t()?)?;
        let flat = bias.map_or(Ok(flat.clone()), |bias| add_bias(&flat, bias, 1))?;
        return Ok(flat.reshape(dims)?);
    }
    let rows = leading.iter().product::<usize>();
    let [x, w] = [input, weight].map(Tensor::detach);
    let x = x.reshape((rows, in_features))?.contiguous()?;
    let value = match bias {
        None => product(&x, &w.t()?)?,
        Some(bias) => product_plus_row(&x, &w.t()?, &bias.detach())?,
    };
    let op = Linear(Factors::of(input, &w, weight, &x));
    let value = Value::fresh(value.reshape(dims)?);
    match bias {
        None => record(op, &[input, weight], value),
        Some(bias) => record(op, &[input, weight, bias], value),
    }
}

/// What the gradients of a linear map are products with.
pub(super) struct Factors {
    /// For the input's: the weight, where the input is tracked.
    weight: Option<Tensor>,
    /// For the weight's: the input, `(rows, in)`, where the weight is tracked.
    input: Option<Tensor>,
}

impl Factors {
    /// Of tracked and plain inputs; the plain input is `(rows, in)`.
    pub(super) fn of(input: &Tensor, plain_weight: &Tensor, weight: &Tensor, rows: &Tensor) -> Self {
        Self {
            weight: input.track_op().then(|| plain_weight.clone()),
            input: weight.track_op().then(|| rows.clone()),
        }
    }

    /// What is multiplied, where anything is.
    pub(super) fn dtype(&self) -> Option<DType> {
        self.weight.as_ref().or(self.input.as_ref()).map(Tensor::dtype)
    }

    /// The gradients of input, weight and bias, which are the op's inputs from `first` on, from the value's in the factors' dtype.
    pub(super) fn gradients(
        &self,
        cx: &Backward<'_>,
        first: usize,
        grad: &Tensor,
    ) -> Result<Vec<Option<Tensor>>> {
        let (leading, width) = grad.dims().split_at(grad.rank() - 1);
        let rows = grad.reshape(((), width[0]))?;
        let input = |weight: &Tensor| -> Result<Tensor> {
            let dims = [leading, &weight.dims()[1..]].concat();
            Ok(product(&rows, weight)?.reshape(dims)?)
        };
        let input = self.weight.as_ref().map(input).transpose()?;
        let weight = self.input.as_ref().map(|x| product(&rows.t()?, x)).transpose()?;
        let bias = cx.wanted(first + 2).then(|| sum_to_vector(&rows, 1)).transpose()?;
        let mut grads = vec![input, weight, bias];
        grads.truncate(cx.inputs() - first);
        Ok(grads)
    }
}

struct Linear(Factors);

impl Op for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        self.0.gradients(cx, 0, cx.grad())
    }
}
