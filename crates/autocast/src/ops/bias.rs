//! Adding a vector along one dimension, as `linear` and the convolutions do with their bias. The bias gradient is a sum
//! over all other elements and must not run in 16 bits (4096 ones sum to 256 in bf16), which candle's broadcasting does.

use candle_core::{Layout, Result, Shape, Tensor};

use super::broadcast::sum_to_vector;
use super::node::{DeviceStorage, Op, View, apply};

/// `x + bias`, the bias along dimension `dim` of `x`; both have the same dtype, and lengths were checked.
pub(crate) fn add_bias(x: &Tensor, bias: &Tensor, dim: usize) -> Result<Tensor> {
    apply(AddBias { dim }, [x, &bias.contiguous()?])
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
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn forward<S: DeviceStorage>(&self, [x, bias]: [View<S>; 2]) -> Result<(S, Shape)> {
        if x.1.shape().elem_count() == 0 {
            return Ok((x.0.try_clone(x.1)?, x.1.shape().clone()));
        }
        Ok((storage_add_bias(x, bias, self.dim)?, x.1.shape().clone()))
    }

    fn backward(
        &self,
        _: [&Tensor; 2],
        _: &Tensor,
        grad: &Tensor,
        wanted: [bool; 2],
    ) -> Result<[Option<Tensor>; 2]> {
        let bias_grad = wanted[1].then(|| sum_to_vector(grad, self.dim)).transpose()?;
        Ok([wanted[0].then(|| grad.clone()), bias_grad])
    }
}

/// The sum of `x`, which is not empty, and a contiguous bias along its dimension `dim`.
pub(super) fn storage_add_bias<S: DeviceStorage>(x: View<S>, bias: View<S>, dim: usize) -> Result<S> {
    let dims = along(bias.1.shape().elem_count(), dim, x.1.dims().len());
    let spread = Layout::contiguous_with_offset(dims, bias.1.start_offset()).broadcast_as(x.1.shape())?;
    x.0.binary_impl::<candle_core::op::Add>(bias.0, x.1, &spread)
}
