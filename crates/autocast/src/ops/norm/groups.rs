//! A norm of groups of channels as one kernel each way, on a CPU.

use backends::bridge::Call;
use backends::kernels::group_norm as kernel;
use candle_core::{DType, Tensor};

use super::formula::Norm;
use super::saved::{Given, Parts, Saved};
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
    let given = Given::of(inputs, parts);
    let made = kernel::value_of(kernel, &given.x, [given.weight.as_ref(), given.bias.as_ref()], dtype)?;
    let Call::Ran(kernel::Normalized { y, statistics }) = made else { return Ok(None) };
    record(Groups { op, kernel, saved: given.saved(statistics) }, inputs, Value::fresh(y)).map(Some)
}

/// A norm of groups, with what its backward takes from its forward.
struct Groups {
    op: &'static str,
    kernel: kernel::GroupNorm,
    saved: Saved,
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
        let Saved { x, weight, statistics, .. } = &self.saved;
        let wanted = self.saved.wanted(cx);
        let made = kernel::gradients_of(self.kernel, cx.grad(), x, weight.as_ref(), statistics, wanted)?;
        let grads = made.ran().ok_or_else(|| Error::refused(self.op))?;
        Ok(self.saved.of_inputs(grads))
    }
}
