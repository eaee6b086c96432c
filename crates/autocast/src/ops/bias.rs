//! Adding a vector along one dimension, as `linear` and the convolutions do with their bias. The bias gradient is a sum
//! over all other elements and must not run in 16 bits (4096 ones sum to 256 in bf16), which candle's broadcasting does.

use candle_core::backend::BackendStorage;
use candle_core::{Layout, Result, Shape, Tensor};

use super::custom::{Op2, Wanted, apply2};
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

impl Op2 for AddBias {
    const NAME: &'static str = "add-bias";

    fn forward<S: BackendStorage>(
        &self,
        x: &S,
        x_l: &Layout,
        bias: &S,
        bias_l: &Layout,
    ) -> Result<(S, Shape)> {
        if x_l.shape().elem_count() == 0 {
            return Ok((x.try_clone(x_l)?, x_l.shape().clone()));
        }
        let len = bias_l.shape().elem_count();
        let dims = along(len, self.dim, x_l.dims().len());
        let spread = Layout::contiguous_with_offset(dims, bias_l.start_offset()).broadcast_as(x_l.shape())?;
        let sum = x.binary_impl::<candle_core::op::Add>(bias, x_l, &spread)?;
        Ok((sum, x_l.shape().clone()))
    }

    fn backward(&self, _: &Tensor, _: &Tensor, grad: &Tensor, wanted: Wanted) -> Result<[Option<Tensor>; 2]> {
        let bias_grad = wanted.1.then(|| sum_to_vector(grad, self.dim)).transpose()?;
        Ok([wanted.0.then(|| grad.clone()), bias_grad])
    }
}

/// The sum of the contiguous `x` over every dimension but `dim`, in `x`'s dtype, accumulated in a wider one.
fn sum_to_vector(x: &Tensor, dim: usize) -> Result<Tensor> {
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
