//! Adding a vector along one dimension, as `linear` and the convolutions do with their bias. The bias gradient is a sum
//! over all other elements and must not run in 16 bits (4096 ones sum to 256 in bf16), which candle's broadcasting does.

use candle_core::backend::BackendStorage;
use candle_core::{Layout, Result, Shape, Tensor};

use super::custom::{Op, View, apply2};
use super::product::product;
use crate::prepare::accumulation_dtype;

/// `x + bias`, the bias along dimension `dim` of `x`; both have the same dtype, and lengths were checked.
pub(crate) fn add_bias(x: &Tensor, bias: &Tensor, dim: usize) -> Result<Tensor> {
    apply2(AddBias { dim }, x, &bias.contiguous()?)
}

/// `[1, .., len, .., 1]` with `len` at `dim`.
fn along(len: usize, dim: usize, rank: usize) -> Vec<usize> {
    let mut dims = vec![1; rank];
    dims[dim] = len;
    dims
}

struct AddBias {
    dim: usize,
}

impl Op<2> for AddBias {
    const NAME: &'static str = "add-bias";

    fn forward<S: BackendStorage>(&self, [x, bias]: [View<S>; 2]) -> Result<(S, Shape)> {
        if x.1.shape().elem_count() == 0 {
            return Ok((x.0.try_clone(x.1)?, x.1.shape().clone()));
        }
        Ok((storage_add_bias(x, bias, self.dim)?, x.1.shape().clone()))
    }

    fn backward(&self, _: [&Tensor; 2], grad: &Tensor, wanted: [bool; 2]) -> Result<[Option<Tensor>; 2]> {
        let bias_grad = wanted[1].then(|| sum_to_vector(grad, self.dim)).transpose()?;
        Ok([wanted[0].then(|| grad.clone()), bias_grad])
    }
}

/// The sum of `x`, which is not empty, and a contiguous bias along its dimension `dim`.
pub(super) fn storage_add_bias<S: BackendStorage>(x: View<S>, bias: View<S>, dim: usize) -> Result<S> {
    let dims = along(bias.1.shape().elem_count(), dim, x.1.dims().len());
    let spread = Layout::contiguous_with_offset(dims, bias.1.start_offset()).broadcast_as(x.1.shape())?;
    x.0.binary_impl::<candle_core::op::Add>(bias.0, x.1, &spread)
}

/// The sum of the contiguous `x` over every dimension but `dim`, in `x`'s dtype, accumulated in a wider one.
pub(super) fn sum_to_vector(x: &Tensor, dim: usize) -> Result<Tensor> {
    let dims = x.dims();
    if x.elem_count() == 0 {
        return Tensor::zeros(dims[dim], x.dtype(), x.device());
    }
    let (rows, len): (usize, usize) = (dims[..dim].iter().product(), dims[dim]);
    let rest: usize = dims[dim + 1..].iter().product();
    let dtype = x.dtype();
    let per_row = if rest == 1 {
        x.reshape((rows, len))?
    } else {
        x.reshape((rows, len, rest))?.to_dtype(accumulation_dtype(dtype))?.sum(2)?
    };
    // A product with ones: matrix products accumulate in f32 and use every core, candle's sum over a leading dimension
    // does neither.
    let ones = Tensor::ones((1, rows), per_row.dtype(), per_row.device())?;
    product(&ones, &per_row)?.squeeze(0)?.to_dtype(dtype)
}
