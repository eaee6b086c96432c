//! A norm of rows as one kernel each way, which reads its inputs as they are.

use backends::kernels::norm as kernel;
use candle_core::{DType, Tensor};

use super::formula::Norm;
use super::saved::{Given, Parts, Saved};
use super::view::Centre;
use crate::graph::{Attribute, Backward, Op, Value, record};
use crate::{Error, Result};

/// The norm as one kernel, where one takes it. It reads the inputs as they are.
pub(super) fn of_rows(
    op: &'static str,
    norm: &Norm,
    inputs: &[&Tensor],
    parts: Parts,
    dtype: DType,
) -> Result<Option<Tensor>> {
    let given = Given::of(inputs, parts);
    let kernel = kernel::Norm {
        centre: match norm.centre {
            Centre::Mean => kernel::Centre::Mean,
            Centre::Zero => kernel::Centre::Zero,
        },
        width: norm.view.rows[1],
        eps: norm.eps,
    };
    let value = kernel::value_of(kernel, &given.x, given.weight.as_ref(), given.bias.as_ref(), dtype)?;
    let Some(kernel::Normalized { y, statistics }) = value else { return Ok(None) };
    let weight_dims = norm.view.weight_dims.clone();
    let op = Rows { op, kernel, saved: given.saved(statistics), weight_dims };
    record(op, inputs, Value::fresh(y)).map(Some)
}

/// A norm of rows, with what its backward takes from its forward.
struct Rows {
    op: &'static str,
    kernel: kernel::Norm,
    saved: Saved,
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
        let wanted = self.saved.wanted(cx);
        let Saved { x, weight, statistics, .. } = &self.saved;
        // What goes around the norm, by a residual, is added where its own gradient is made.
        let around = if cx.wanted(0) { cx.take(0)? } else { None };
        let (weight, around) = (weight.as_ref(), around.as_ref());
        let grads = kernel::gradients_of(self.kernel, cx.grad(), x, weight, statistics, wanted, around)?;
        let Some(grads) = grads else { return Err(Error::refused(self.op)) };
        let shaped = self.saved.of_inputs(grads).into_iter().enumerate().map(|(input, grad)| {
            let dims = if input == 0 { x.dims() } else { &self.weight_dims };
            grad.map(|grad| Ok(grad.reshape(dims)?)).transpose()
        });
        shaped.collect()
    }
}
