//! cross_entropy: log-softmax and negative log-likelihood in one op, so that no matrix of log-probabilities is kept.

use candle_core::Tensor;

use super::Reduction;
use super::targets::{Targets, check_class_weight, rows};
use crate::ops::record::{record, wide};
use crate::prepare::float_inputs;
use crate::{Error, Result};

/// The options of [`cross_entropy`].
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

/// The cross-entropy of `logits` and `targets`.
///
/// Targets are class indices (integers), or class probabilities (floats, and then differentiable). The mean over no
/// target at all (an empty batch, every target ignored) is NaN, as in PyTorch.
///
/// # Shapes
///
/// `logits` is `(C)`, `(N, C)` or `(N, C, d₁, …)`; indices are `()`, `(N)` or `(N, d₁, …)`, probabilities have the shape
/// of `logits`.
///
/// # Errors
///
/// Shapes that do not fit; options out of range; class weights that are part of a graph; on a CPU, a target that is not
/// a class (on a GPU, where looking would stall the stream, its loss is NaN).
///
/// # Source
///
/// `torch.nn.functional.cross_entropy`. With p = softmax(x) and the target distribution q, the gradient of a row is
/// `p · Σ q − q`.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, options: &CrossEntropy) -> Result<Tensor> {
    if !(0. ..=1.).contains(&options.label_smoothing) {
        return Err(Error::argument(OP, "label_smoothing", options.label_smoothing, "0 to 1"));
    }
    match targets.dtype().is_int() {
        true => with_indices(logits, targets, options),
        false => with_probabilities(logits, targets, options),
    }
}

const OP: &str = "cross_entropy_loss";

fn with_indices(logits: &Tensor, targets: &Tensor, options: &CrossEntropy) -> Result<Tensor> {
    let [logits] = float_inputs(OP, [logits])?;
    let (x, target_dims) = rows(OP, &logits)?;
    if targets.dims() != target_dims {
        return Err(Error::shape(OP, format!("targets of shape {target_dims:?}"), targets.dims()));
    }
    let classes = x.dims()[1];
    check_class_weight(OP, options.weight.as_ref(), classes)?;
    if classes == 0 {
        return Err(Error::shape(OP, "at least one class", logits.dims()));
    }
    let [w] = wide([&x])?;
    let class_weight = options.weight.as_ref();
    let targets = Targets::new(OP, targets, classes, options.ignore_index, class_weight, w.dtype())?;
    let smooth = Smoothing::new(options, classes, &targets, &w)?;

    let (shifted, lse) = shifted_rows(&w)?;
    let picked = shifted.gather(&targets.index, 1)?;
    let mut losses = ((&lse - picked)? * &smooth.own)?;
    if let Some((even, weights)) = &smooth.rest {
        // Σ_c e·w_c·(lse − x_c), with e = 0 in rows that are left out.
        let sums = (lse.broadcast_mul(&weights.sum_keepdim(1)?)?
            - shifted.broadcast_mul(weights)?.sum_keepdim(1)?)?;
        losses = (losses + (sums * even)?)?;
    }
    let (value, per_row) = reduce_rows(&losses, &targets.weight, options.reduction, &target_dims)?;
    let log_norm = (lse + row_max(&w)?)?;
    record(OP, [&x], value.to_dtype(x.dtype())?, move |grad, _, [x]| {
        let [x] = wide([x])?;
        let row_grad = row_gradient(grad, &per_row, x.dims()[0])?;
        let own = (&row_grad * &smooth.own)?;
        let mut total = own.clone();
        if let Some((even, weights)) = &smooth.rest {
            total = (total + (&row_grad * even)?.broadcast_mul(&weights.sum_keepdim(1)?)?)?;
        }
        let mut dx = x.broadcast_sub(&log_norm)?.exp()?.broadcast_mul(&total)?;
        if let Some((even, weights)) = &smooth.rest {
            dx = (dx - (&row_grad * even)?.broadcast_mul(weights)?)?;
        }
        dx.scatter_add_set(&targets.index, &own.neg()?, 1)?;
        Ok([dx])
    })
}

/// How a row's loss is split between its own class and, under label smoothing, all classes.
struct Smoothing {
    /// `(rows, 1)`: the weight of the row's own class.
    own: Tensor,
    /// `(rows, 1)` and `(1, classes)`, the product of which weighs all classes.
    rest: Option<(Tensor, Tensor)>,
}

impl Smoothing {
    fn new(options: &CrossEntropy, classes: usize, targets: &Targets, x: &Tensor) -> Result<Self> {
        let smoothing = options.label_smoothing;
        if smoothing == 0. {
            return Ok(Self { own: targets.weight.clone(), rest: None });
        }
        let weights = match &options.weight {
            Some(weight) => weight.to_dtype(x.dtype())?.reshape((1, classes))?,
            None => Tensor::ones((1, classes), x.dtype(), x.device())?,
        };
        let zero = targets.weight.zeros_like()?;
        let counted =
            targets.counted.where_cond(&(zero.ones_like()? * (smoothing / classes as f64))?, &zero)?;
        Ok(Self { own: (&targets.weight * (1. - smoothing))?, rest: Some((counted, weights)) })
    }
}

/// Each row less its maximum, and the logarithm of the sum of its exponentials.
fn shifted_rows(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let shifted = x.broadcast_sub(&row_max(x)?)?;
    let lse = shifted.exp()?.sum_keepdim(1)?.log()?;
    Ok((shifted, lse))
}

/// The maximum of each row, of which there may be none.
fn row_max(x: &Tensor) -> Result<Tensor> {
    Ok(if x.dims()[0] == 0 { x.sum_keepdim(1)? } else { x.max_keepdim(1)? })
}

/// What the gradient of a reduced loss is multiplied by to give a row's.
pub(super) enum PerRow {
    /// The gradient has an entry for each row.
    Own,
    /// The gradient is one number, to be multiplied by this one.
    Shared(Tensor),
}

/// The reduced loss, in the shape of the targets where each is kept.
pub(super) fn reduce_rows(
    losses: &Tensor,
    weights: &Tensor,
    reduction: Reduction,
    target_dims: &[usize],
) -> Result<(Tensor, PerRow)> {
    Ok(match reduction {
        Reduction::None => (losses.reshape(target_dims)?, PerRow::Own),
        Reduction::Sum | Reduction::BatchMean => {
            let one = Tensor::ones((), losses.dtype(), losses.device())?;
            let share = (one / reduction.divisor(target_dims))?;
            ((losses.sum_all()? * &share)?, PerRow::Shared(share))
        }
        Reduction::Mean => {
            let share = weights.sum_all()?.recip()?;
            ((losses.sum_all()? * &share)?, PerRow::Shared(share))
        }
    })
}

/// The gradient of each row's loss, `(rows, 1)`.
pub(super) fn row_gradient(grad: &Tensor, per_row: &PerRow, rows: usize) -> Result<Tensor> {
    Ok(match per_row {
        PerRow::Own => grad.reshape((rows, 1))?,
        PerRow::Shared(share) => (grad * share)?.reshape((1, 1))?.broadcast_as((rows, 1))?.contiguous()?,
    })
}

fn with_probabilities(logits: &Tensor, targets: &Tensor, options: &CrossEntropy) -> Result<Tensor> {
    let [logits, targets] = float_inputs(OP, [logits, targets])?;
    if targets.dims() != logits.dims() {
        return Err(Error::shape(OP, format!("probabilities of shape {:?}", logits.dims()), targets.dims()));
    }
    let (x, target_dims) = rows(OP, &logits)?;
    let (q, _) = rows(OP, &targets)?;
    let (count, classes) = x.dims2()?;
    check_class_weight(OP, options.weight.as_ref(), classes)?;
    if classes == 0 {
        return Err(Error::shape(OP, "at least one class", logits.dims()));
    }
    let [w, wq] = wide([&x, &q.to_dtype(x.dtype())?])?;
    let weights = match &options.weight {
        Some(weight) => weight.to_dtype(w.dtype())?.reshape((1, classes))?,
        None => Tensor::ones((1, classes), w.dtype(), w.device())?,
    };
    let keep = 1. - options.label_smoothing;
    let spread = options.label_smoothing / classes as f64;
    // What each class's log-probability is multiplied by.
    let wq = wq.affine(keep, spread)?.broadcast_mul(&weights)?;
    let (shifted, lse) = shifted_rows(&w)?;
    let log_p = shifted.broadcast_sub(&lse)?;
    let losses = (&wq * &log_p)?.sum_keepdim(1)?.neg()?;
    let one = Tensor::ones((count, 1), w.dtype(), w.device())?;
    let (value, per_row) = reduce_rows(&losses, &one, options.reduction, &target_dims)?;
    record(OP, [&x, &q], value.to_dtype(x.dtype())?, move |grad, _, _| {
        let row_grad = row_gradient(grad, &per_row, count)?;
        let dx = (log_p.exp()?.broadcast_mul(&wq.sum_keepdim(1)?)? - &wq)?;
        let dq = log_p.broadcast_mul(&weights)?.broadcast_mul(&(&row_grad * -keep)?)?;
        Ok([dx.broadcast_mul(&row_grad)?, dq])
    })
}
