//! A norm of groups of channels as one kernel each way, on a CPU.

use backends::bridge::Call;
use backends::kernels::group_norm as kernel;
use candle_core::{DType, Tensor};

use super::formula::Norm;
use super::rows::Parts;
use super::view::Centre;
use crate::graph::{Attribute, Backward, Op, Value, record};
use crate::{Error, Result};

/// The norm as one kernel, where one takes it. It reads the inputs as they are.
pub(super) fn of_groups(
    op: &'static str,
    norm: &Norm,
    inputs: &[&Tensor],
    parts: Parts,
    dtype: DType,
) -> Result<Option<Tensor>> {
    let Some([groups, channels, positions]) = norm.view.groups().filter(|_| norm.centre == Centre::Mean)
    else {
        return Ok(None);
    };
    let kernel = kernel::GroupNorm { groups, channels, positions, eps: norm.eps };
    let plain: Vec<Tensor> = inputs.iter().map(|input| input.detach()).collect();
    let weight = parts.weight.then(|| plain[1].clone());
    let bias = parts.bias.then(|| &plain[1 + usize::from(parts.weight)]);
    let made = kernel::value_of(kernel, &plain[0], [weight.as_ref(), bias], dtype)?;
    let Call::Ran(kernel::Normalized { y, statistics }) = made else { return Ok(None) };
    let dtypes = inputs.iter().map(|input| input.dtype()).collect();
    let saved = Groups { op, kernel, x: plain[0].clone(), weight, bias: parts.bias, statistics, dtypes };
    record(saved, inputs, Value::fresh(y)).map(Some)
}

/// A norm of groups, with what its backward takes from its forward.
struct Groups {
    op: &'static str,
    kernel: kernel::GroupNorm,
    x: Tensor,
    weight: Option<Tensor>,
    bias: bool,
    statistics: Tensor,
    /// Of the inputs.
    dtypes: Vec<DType>,
}

impl Op for Groups {
    fn name(&self) -> &'static str {
        self.op
    }

    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        vec![("eps", Attribute::Number(self.kernel.eps)), ("groups", Attribute::from(self.kernel.groups))]
    }

    fn reads_narrow(&self) -> bool {
        true
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let has_weight = self.weight.is_some();
        let dtype_of = |has: bool, input: usize| (has && cx.wanted(input)).then(|| self.dtypes[input]);
        let wanted = kernel::Wanted {
            x: dtype_of(true, 0),
            weight: dtype_of(has_weight, 1),
            bias: dtype_of(self.bias, 1 + usize::from(has_weight)),
        };
        let weight = self.weight.as_ref();
        let made = kernel::gradients_of(self.kernel, cx.grad(), &self.x, weight, &self.statistics, wanted)?;
        let kernel::Gradients { x, weight, bias } = made.ran().ok_or_else(|| Error::refused(self.op))?;
        let mut grads = vec![x];
        grads.extend(has_weight.then_some(weight));
        grads.extend(self.bias.then_some(bias));
        Ok(grads)
    }
}
