//! `linear`: the product with a weight matrix, and its bias.

use candle_core::{Layout, Shape, Tensor};

use super::bias::{add_bias, storage_add_bias};
use super::broadcast::sum_to_vector;
use super::node::{DeviceStorage, Op, View, apply};
use super::product::{product, readable, storage_product};
use super::size::check_size;
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

    let mut dims = leading.to_vec();
    dims.push(out_features);
    check_size(op, &dims, input.dtype())?;
    if input.elem_count() == 0 || weight.elem_count() == 0 {
        let rows = leading.iter().product::<usize>();
        let flat = product(&input.reshape((rows, in_features))?, &weight.t()?)?;
        let flat = bias.map_or(Ok(flat.clone()), |bias| add_bias(&flat, bias, 1))?;
        return Ok(flat.reshape(dims)?);
    }
    let (input, weight) = (input.contiguous()?, readable(weight)?);
    Ok(match bias {
        None => apply(Linear, [&input, &weight])?,
        Some(bias) => apply(Linear, [&input, &weight, &bias.contiguous()?])?,
    })
}

/// One node for the product and the bias: each further node would cost the backward pass two passes over its value.
struct Linear;

impl Linear {
    fn product<S: DeviceStorage>(
        (input, input_l): View<S>,
        (weight, weight_l): View<S>,
    ) -> candle_core::Result<(S, Shape)> {
        let (leading, width) = input_l.dims().split_at(input_l.dims().len() - 1);
        let rows = (leading.iter().product::<usize>(), width[0]);
        let rows = Layout::contiguous_with_offset(rows, input_l.start_offset());
        let (product, _) = storage_product((input, &rows), (weight, &weight_l.transpose(0, 1)?))?;
        Ok((product, [leading, &weight_l.dims()[..1]].concat().into()))
    }

    fn gradients(
        input: &Tensor,
        weight: &Tensor,
        grad: &Tensor,
        wanted: [bool; 2],
    ) -> candle_core::Result<[Option<Tensor>; 2]> {
        let (out_features, in_features) = weight.dims2()?;
        let grad = grad.reshape(((), out_features))?;
        let input_grad = || product(&grad, weight)?.reshape(input.dims());
        let weight_grad = || product(&grad.t()?, &input.reshape(((), in_features))?);
        Ok([wanted[0].then(input_grad).transpose()?, wanted[1].then(weight_grad).transpose()?])
    }
}

impl Op<2> for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn forward<S: DeviceStorage>(&self, [input, weight]: [View<S>; 2]) -> candle_core::Result<(S, Shape)> {
        Self::product(input, weight)
    }

    fn backward(
        &self,
        [input, weight]: [&Tensor; 2],
        _: &Tensor,
        grad: &Tensor,
        wanted: [bool; 2],
    ) -> candle_core::Result<[Option<Tensor>; 2]> {
        Self::gradients(input, weight, grad, wanted)
    }
}

impl Op<3> for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn forward<S: DeviceStorage>(
        &self,
        [input, weight, bias]: [View<S>; 3],
    ) -> candle_core::Result<(S, Shape)> {
        let (product, shape) = Self::product(input, weight)?;
        let layout = Layout::contiguous(&shape);
        let sum = storage_add_bias((&product, &layout), bias, shape.rank() - 1)?;
        Ok((sum, shape))
    }

    fn backward(
        &self,
        [input, weight, _]: [&Tensor; 3],
        _: &Tensor,
        grad: &Tensor,
        wanted: [bool; 3],
    ) -> candle_core::Result<[Option<Tensor>; 3]> {
        let [input_grad, weight_grad] = Self::gradients(input, weight, grad, [wanted[0], wanted[1]])?;
        let bias_grad = wanted[2].then(|| sum_to_vector(grad, grad.rank() - 1)).transpose()?;
        Ok([input_grad, weight_grad, bias_grad])
    }
}
