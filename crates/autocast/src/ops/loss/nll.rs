//! The negative log-likelihood of log-probabilities that somebody else computed.

use candle_core::Tensor;

use super::Reduction;
use super::rows::{over_nothing, reduce_rows, row_gradient, weighed};
use super::targets::{Targets, check_class_weight, rows};
use crate::graph::{Keep, composed, wide};
use crate::prepare::float_inputs;
use crate::{Error, Result};

/// `−weight[t] · input[t]` for class indices t. A row that is left out, or whose class weighs 0, does not matter whatever
/// it holds; the mean over no row is NaN, and its gradient 0.
///
/// # Shapes
///
/// As [`cross_entropy`](super::cross_entropy) with class indices.
///
/// # Errors
///
/// As [`cross_entropy`](super::cross_entropy).
///
/// # Source
///
/// `torch.nn.functional.nll_loss`; the default of `ignore_index` is −100.
pub fn nll_loss(
    log_probabilities: &Tensor,
    targets: &Tensor,
    weight: Option<&Tensor>,
    ignore_index: i64,
    reduction: Reduction,
) -> Result<Tensor> {
    const OP: &str = "nll_loss";
    let [input] = float_inputs(OP, [log_probabilities])?;
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
        return Err(Error::shape(OP, "input", input.dims(), "at least one class"));
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
