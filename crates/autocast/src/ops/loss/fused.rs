//! cross_entropy with class indices as one kernel each way: logits are read as they are, 16 bits or more, and no other tensor
//! of their size is made but their gradient.

use backends::kernels::cross_entropy as kernel;
use candle_core::{DType, Tensor};

use super::reduction::Reduction;
use super::rows::{PerRow, reduce_rows, row_gradient, weighed};
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

/// The loss as the kernel knows it: of classes that weigh the same.
pub(super) fn by_kernel(options: &CrossEntropy, classes: usize) -> kernel::CrossEntropy {
    let CrossEntropy { label_smoothing, ignore_index, .. } = *options;
    kernel::CrossEntropy { classes, ignore_index, label_smoothing }
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
    // Under label smoothing a row's loss has a part of every class, each with a weight of its own.
    if options.weight.is_some() && options.label_smoothing != 0. {
        return Ok(None);
    }
    let loss = by_kernel(options, classes);
    let wide = accumulation_dtype(logits.dtype());
    // Refuses what is no class, on a CPU.
    let checked = Targets::new(OP, targets, classes, options.ignore_index, options.weight.as_ref(), wide)?;
    let plain = logits.detach();
    let targets = targets.detach().flatten_all()?;
    let targets = if targets.dtype() == DType::I64 { targets } else { targets.to_dtype(DType::I64)? };
    let Some(kernel::Losses { losses, lse }) = kernel::losses_of(loss, &plain, &targets)? else {
        return Ok(None);
    };
    let weight = options.weight.is_some().then(|| checked.weight.clone());
    let mut losses = losses.reshape((count, 1))?;
    if let Some(weight) = &weight {
        losses = weighed(&losses, weight)?;
    }
    let (value, per_row) = reduce_rows(&losses, &checked.weight, options.reduction, target_dims)?;
    let value = Value::fresh(cast_to(&value, dtype)?);
    record(Fused { loss, logits: plain, targets, lse, weight, per_row }, &[logits], value).map(Some)
}

struct Fused {
    loss: kernel::CrossEntropy,
    logits: Tensor,
    targets: Tensor,
    lse: Tensor,
    /// Of each row, `(rows, 1)`, where classes have weights.
    weight: Option<Tensor>,
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
        let Self { loss, logits, targets, lse, weight, per_row } = self;
        let mut factors = row_gradient(&widen(cx.grad())?, per_row, logits.dim(0)?)?;
        if let Some(weight) = weight {
            factors = weighed(&factors, weight)?;
        }
        let factors = factors.flatten_all()?;
        match kernel::gradient_of(*loss, logits, targets, lse, &factors, logits.dtype())? {
            Some(grad) => Ok(vec![Some(grad)]),
            None => Err(Error::refused(OP)),
        }
    }
}
