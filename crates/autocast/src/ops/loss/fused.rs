//! cross_entropy with class indices as one kernel each way: logits are read as they are, 16 bits or more, and no other tensor
//! of their size is made but their gradient.

use backends::kernels::cross_entropy as kernel;
use candle_core::{DType, Tensor};

use super::reduction::Reduction;
use super::rows::{PerRow, reduce_rows, row_gradient};
use super::targets::Targets;
use crate::dtypes::accumulation_dtype;
use crate::graph::{Attribute, Backward, Op, Value, record};
use crate::region::{cast_to, widen};
use crate::{Error, Result};

pub(super) const OP: &str = "cross_entropy_loss";

/// The options of [`cross_entropy`](crate::ops::cross_entropy).
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    /// One constant weight per class.
    pub weight: Option<Tensor>,
    /// The share of each target that is spread evenly over all classes, in `0..=1`.
    pub label_smoothing: f64,
    /// Targets of this value are left out of the loss and of its mean.
    pub ignore_index: i64,
    /// What becomes of the losses of single targets. The mean is weighted by the targets' class weights.
    pub reduction: Reduction,
}

impl Default for CrossEntropy {
    fn default() -> Self {
        Self { weight: None, label_smoothing: 0., ignore_index: -100, reduction: Reduction::Mean }
    }
}

/// An error for options out of range.
pub(super) fn check(options: &CrossEntropy) -> Result<()> {
    match (0. ..=1.).contains(&options.label_smoothing) {
        true => Ok(()),
        false => Err(Error::argument(OP, "label_smoothing", options.label_smoothing, "0 to 1")),
    }
}

/// The loss as the kernel knows it, if it does: a class's weight would have to be looked up for each target.
pub(super) fn by_kernel(options: &CrossEntropy, classes: usize) -> Option<kernel::CrossEntropy> {
    let CrossEntropy { ref weight, label_smoothing, ignore_index, .. } = *options;
    weight.is_none().then_some(kernel::CrossEntropy { classes, ignore_index, label_smoothing })
}

/// The loss of rows of logits in `dtype`, where a kernel takes it.
pub(super) fn of_indices(
    logits: &Tensor,
    dtype: DType,
    targets: &Tensor,
    target_dims: &[usize],
    options: &CrossEntropy,
) -> Result<Option<Tensor>> {
    let (count, classes) = logits.dims2()?;
    let Some(loss) = by_kernel(options, classes) else { return Ok(None) };
    let wide = accumulation_dtype(logits.dtype());
    // Refuses what is no class, on a CPU.
    let checked = Targets::new(OP, targets, classes, options.ignore_index, None, wide)?;
    let plain = logits.detach();
    let targets = targets.detach().flatten_all()?;
    let targets = if targets.dtype() == DType::I64 { targets } else { targets.to_dtype(DType::I64)? };
    let Some(kernel::Losses { losses, lse }) = kernel::losses_of(loss, &plain, &targets)? else {
        return Ok(None);
    };
    let losses = losses.reshape((count, 1))?;
    let (value, per_row) = reduce_rows(&losses, &checked.weight, options.reduction, target_dims)?;
    let value = Value::fresh(cast_to(&value, dtype)?);
    record(Fused { loss, logits: plain, targets, lse, per_row }, &[logits], value).map(Some)
}

struct Fused {
    loss: kernel::CrossEntropy,
    logits: Tensor,
    targets: Tensor,
    lse: Tensor,
    per_row: PerRow,
}

impl Op for Fused {
    fn name(&self) -> &'static str {
        OP
    }

    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        vec![
            ("ignore_index", Attribute::Integer(self.loss.ignore_index)),
            ("label_smoothing", Attribute::Number(self.loss.label_smoothing)),
        ]
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let Self { loss, logits, targets, lse, per_row } = self;
        let factors = row_gradient(&widen(cx.grad())?, per_row, logits.dim(0)?)?.flatten_all()?;
        match kernel::gradient_of(*loss, logits, targets, lse, &factors, logits.dtype())? {
            Some(grad) => Ok(vec![Some(grad)]),
            None => Err(Error::refused(OP)),
        }
    }
}
