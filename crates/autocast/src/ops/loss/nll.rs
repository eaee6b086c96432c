//! The negative log-likelihood of log-probabilities that somebody else computed.

use candle_core::Tensor;

use super::reduction::Reduction;
use super::rows::{over_nothing, reduce_rows, row_gradient, weighed};
use super::targets::{Targets, check_class_weight, rows};
use crate::graph::{Keep, composed, wide};
use crate::region::float_inputs;
use crate::{Error, Result};

/// The options of [`nll_loss`].
#[derive(Clone, Debug)]
pub struct NllLoss {
    /// One constant weight per class.
    pub weight: Option<Tensor>,
    /// Targets of this value are left out of the loss and of its mean.
    pub ignore_index: i64,
    /// What becomes of the losses of single targets. The mean is weighted by the targets' class weights.
    pub reduction: Reduction,
}

impl Default for NllLoss {
    fn default() -> Self {
        Self { weight: None, ignore_index: -100, reduction: Reduction::Mean }
    }
}

/// `−weight[t] · input[t]` for class indices t. A row that is left out, or whose class weighs 0, does not matter whatever
/// it holds; the mean over no row is NaN, and its gradient 0.
///
/// # Shapes
///
/// As [`cross_entropy`](crate::ops::cross_entropy) with class indices.
///
/// # Errors
///
/// As [`cross_entropy`](crate::ops::cross_entropy).
///
/// # Source
///
/// `torch.nn.functional.nll_loss`.
pub fn nll_loss(log_probabilities: &Tensor, targets: &Tensor, options: &NllLoss) -> Result<Tensor> {
    const OP: &str = "nll_loss";
    let NllLoss { ref weight, ignore_index, reduction } = *options;
    let weight = weight.as_ref();
    let [input] = float_inputs(OP, [("log_probabilities", log_probabilities)])?;
    let (x, target_dims) = rows(OP, &input)?;
    if targets.dims() != target_dims {
        return Err(Error::shape(OP, "targets", targets.dims(), format!("{target_dims:?}")));
    }
    let (count, classes) = x.dims2()?;
    check_class_weight(OP, weight, classes)?;
    if count == 0 {
        return over_nothing(OP, &[&x], x.dtype(), reduction, &target_dims);
    }
    if classes == 0 {
        return Err(Error::shape(OP, "log_probabilities", input.dims(), "at least one class"));
    }
    let [w] = wide([&x])?;
    let targets = Targets::new(OP, targets, classes, ignore_index, weight, w.dtype())?;
    let losses = weighed(&w.gather(&targets.index, 1)?.neg()?, &targets.weight)?;
    let (value, per_row) = reduce_rows(&losses, &targets.weight, reduction, &target_dims)?;
    composed(OP, [&x], value.to_dtype(x.dtype())?, Keep::Nothing, move |grad, _, [x]| {
        let own = weighed(&row_gradient(grad, &per_row, count)?, &targets.weight)?;
        let dx = Tensor::zeros(x.shape(), grad.dtype(), grad.device())?;
        dx.scatter_add_set(&targets.index, &own.neg()?, 1)?;
        Ok([dx])
    })
}
