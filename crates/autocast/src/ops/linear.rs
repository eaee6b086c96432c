//! `linear`: the product with a weight matrix, and its bias.

use candle_core::Tensor;

use super::bias::add_bias;
use super::product::product_transposed;
use crate::prepare::{cast_inputs, same_dtype};
use crate::{Error, Result};

/// `input · weightᵀ + bias`.
///
/// # Shapes
///
/// `input` is `(.., in)`, `weight` is `(out, in)`, `bias` is `(out)`; the result is `(.., out)`.
///
/// # Errors
///
/// [`Error::ShapeMismatch`] where these do not fit, [`Error::DTypeMismatch`] where the dtypes differ after the region's
/// rule was applied.
///
/// # Source
///
/// `torch.nn.functional.linear`.
pub fn linear(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    const OP: &str = "linear";
    let (input, weight, bias) = match bias {
        None => {
            let [input, weight] = cast_inputs(OP, [input, weight])?;
            same_dtype(OP, &[&input, &weight])?;
            (input, weight, None)
        }
        Some(bias) => {
            let [input, weight, bias] = cast_inputs(OP, [input, weight, bias])?;
            same_dtype(OP, &[&input, &weight, &bias])?;
            (input, weight, Some(bias))
        }
    };
    affine_map(OP, &input, &weight, bias.as_ref())
}

/// [`linear`] for `op`, whose inputs have one dtype already.
pub(crate) fn affine_map(op: &str, input: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let &[out_features, in_features] = weight.dims() else {
        return Err(Error::shape(op, "a weight of shape (out, in)", weight.dims()));
    };
    let Some((&last, leading)) = input.dims().split_last() else {
        return Err(Error::shape(op, format!("an input of shape (.., {in_features})"), input.dims()));
    };
    if last != in_features {
        return Err(Error::shape(op, format!("an input of shape (.., {in_features})"), input.dims()));
    }
    if let Some(bias) = bias
        && bias.dims() != [out_features]
    {
        return Err(Error::shape(op, format!("a bias of shape ({out_features})"), bias.dims()));
    }

    let rows = input.elem_count().checked_div(in_features).unwrap_or_else(|| leading.iter().product());
    let flat = product_transposed(&input.reshape((rows, in_features))?, weight)?;
    let flat = match bias {
        Some(bias) => add_bias(&flat, bias, 1)?,
        None => flat,
    };
    let mut dims = leading.to_vec();
    dims.push(out_features);
    Ok(flat.reshape(dims)?)
}
