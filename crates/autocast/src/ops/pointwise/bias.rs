//! Adding a vector along one dimension, as the convolutions do with their bias. The bias gradient is a sum over all other
//! elements and must not run in 16 bits (4096 ones sum to 256 in bf16), which candle's broadcasting does.

use candle_core::Tensor;

use crate::Result;
use crate::graph::{Attribute, Backward, Op, Value, record};
use crate::ops::shape::broadcast::sum_to_vector;
use crate::plain::plus;

/// `x + bias`, the bias along dimension `dim` of `x`; both have the same dtype, and lengths were checked.
pub(crate) fn add_bias(x: &Tensor, bias: &Tensor, dim: usize) -> Result<Tensor> {
    let op = AddBias { dim };
    if x.elem_count() == 0 {
        return record(op, &[x, bias], Value::fresh(Tensor::zeros(x.shape(), x.dtype(), x.device())?));
    }
    let mut along = vec![1; x.rank()];
    along[dim] = bias.elem_count();
    let value = plus(x, &bias.detach().reshape(along)?)?;
    record(op, &[x, bias], Value::fresh(value))
}

struct AddBias {
    dim: usize,
}

impl Op for AddBias {
    fn name(&self) -> &'static str {
        "add_bias"
    }

    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        vec![("dim", Attribute::Integer(self.dim as i64))]
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let bias = cx.wanted(1).then(|| sum_to_vector(cx.grad(), self.dim)).transpose()?;
        Ok(vec![Some(cx.grad().clone()), bias])
    }
}
