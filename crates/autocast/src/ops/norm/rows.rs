//! A norm of rows as one kernel each way, which reads its inputs as they are.

use backends::kernels::norm as kernel;
use candle_core::{DType, Tensor};

use super::formula::Norm;
use super::view::Centre;
use crate::graph::{Attribute, Backward, Op, Value, record};
use crate::{Error, Result};

/// Which parameters a norm has, after its input.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    pub(super) weight: bool,
    pub(super) bias: bool,
}

/// The norm as one kernel, where one takes it. It reads the inputs as they are.
pub(super) fn of_rows(
    op: &'static str,
    norm: &Norm,
    inputs: &[&Tensor],
    parts: Parts,
    dtype: DType,
) -> Result<Option<Tensor>> {
    let plain: Vec<Tensor> = inputs.iter().map(|input| input.detach()).collect();
    let weight = parts.weight.then(|| plain[1].clone());
    let bias = parts.bias.then(|| plain[1 + usize::from(parts.weight)].clone());
    let kernel = kernel::Norm {
        centre: match norm.centre {
            Centre::Mean => kernel::Centre::Mean,
            Centre::Zero => kernel::Centre::Zero,
        },
        width: norm.view.rows[1],
        eps: norm.eps,
    };
    let value = kernel::value_of(kernel, &plain[0], weight.as_ref(), bias.as_ref(), dtype)?;
    let Some(kernel::Normalized { y, statistics }) = value else { return Ok(None) };
    let dtypes = inputs.iter().map(|input| input.dtype()).collect();
    let weight_dims = norm.view.weight_dims.clone();
    let saved =
        Rows { op, kernel, x: plain[0].clone(), weight, bias: parts.bias, statistics, dtypes, weight_dims };
    record(saved, inputs, Value::fresh(y)).map(Some)
}

/// A norm of rows, with what its backward takes from its forward.
struct Rows {
    op: &'static str,
    kernel: kernel::Norm,
    x: Tensor,
    weight: Option<Tensor>,
    bias: bool,
    statistics: Tensor,
    /// Of the inputs.
    dtypes: Vec<DType>,
    weight_dims: Vec<usize>,
}

impl Op for Rows {
    fn name(&self) -> &'static str {
        self.op
    }

    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        vec![("eps", Attribute::Number(self.kernel.eps)), ("width", Attribute::from(self.kernel.width))]
    }

    fn reads_narrow(&self) -> bool {
        true
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let has_weight = self.weight.is_some();
        let parameter = |has: bool, input: usize| (has && cx.wanted(input)).then(|| self.dtypes[input]);
        let wanted = kernel::Wanted {
            x: cx.wanted(0).then_some(self.dtypes[0]),
            weight: parameter(has_weight, 1),
            bias: parameter(self.bias, 1 + usize::from(has_weight)),
        };
        let weight = self.weight.as_ref();
        // What goes around the norm, by a residual, is added where its own gradient is made.
        let around = if cx.wanted(0) { cx.take(0)? } else { None };
        let (x, statistics) = (&self.x, &self.statistics);
        let grads =
            kernel::gradients_of(self.kernel, cx.grad(), x, weight, statistics, wanted, around.as_ref())?;
        let Some(kernel::Gradients { x, weight, bias }) = grads else {
            return Err(Error::refused(self.op));
        };
        let mut grads = vec![x];
        grads.extend(has_weight.then_some(weight));
        grads.extend(self.bias.then_some(bias));
        let shaped = grads.into_iter().enumerate().map(|(input, grad)| {
            let dims = if input == 0 { self.x.dims() } else { &self.weight_dims };
            grad.map(|grad| Ok(grad.reshape(dims)?)).transpose()
        });
        shaped.collect()
    }
}
