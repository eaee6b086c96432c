//! cross_entropy: log-softmax and negative log-likelihood in one op, so that no matrix of log-probabilities is kept.

use backends::kernels::pointwise::Function;
use candle_core::Tensor;

use super::fused::{self, CrossEntropy, OP};
use super::rows::{over_nothing, reduce_rows, row_gradient, weighed};
use super::targets::{Targets, check_class_weight, rows};
use crate::dtypes::check_float;
use crate::graph::{Keep, composed, wide};
use crate::ops::softmax::log_total;
use crate::plain::{apply, choose, minus, negated, plus, times};
use crate::region::{cast_to, float_inputs, uncast};
use crate::total::total;
use crate::{Error, Result};

/// The cross-entropy of `logits` and `targets`.
///
/// Targets are class indices (integers), or class probabilities (floats, and then differentiable). The mean over no
/// target at all (an empty batch, every target ignored, classes that weigh 0) is NaN, as in PyTorch, and its gradient 0.
/// A row or a class that is left out, or weighs 0, does not matter whatever it holds.
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
    fused::check(options)?;
    match targets.dtype().is_int() {
        true => with_indices(logits, targets, options),
        false => with_probabilities(logits, targets, options),
    }
}

fn with_indices(logits: &Tensor, targets: &Tensor, options: &CrossEntropy) -> Result<Tensor> {
    let as_it_is = uncast(OP, &[logits])?;
    let (logits, dtype) = (&as_it_is[0].0, as_it_is[0].1);
    check_float(OP, "logits", logits)?;
    let (x, target_dims) = rows(OP, logits)?;
    if targets.dims() != target_dims {
        return Err(Error::shape(OP, "targets", targets.dims(), format!("{target_dims:?}")));
    }
    let (count, classes) = x.dims2()?;
    check_class_weight(OP, options.weight.as_ref(), classes)?;
    if classes == 0 {
        return Err(Error::shape(OP, "logits", logits.dims(), "at least one class"));
    }
    if count == 0 {
        return over_nothing(OP, &[&x], dtype, options.reduction, &target_dims);
    }
    if let Some(value) = fused::of_indices(&x, dtype, targets, &target_dims, options)? {
        return Ok(value);
    }
    let x = cast_to(&x, dtype)?;
    let [w] = wide([&x])?;
    let class_weight = options.weight.as_ref();
    let targets = Targets::new(OP, targets, classes, options.ignore_index, class_weight, w.dtype())?;
    let smooth = Smoothing::new(options, classes, &targets, &w)?;

    let Shifted { rows: shifted, max, lse } = Shifted::new(&w)?;
    let picked = shifted.gather(&targets.index, 1)?;
    let mut losses = weighed(&minus(&lse, &picked)?, &smooth.own)?;
    if let Some((even, weights)) = &smooth.rest {
        // Σ_c e·w_c·(lse − x_c), with e = 0 in rows that are left out.
        let sums = minus(&times(&lse, &total(weights, &[1])?)?, &total(&weighed(&shifted, weights)?, &[1])?)?;
        losses = plus(&losses, &weighed(&sums, even)?)?;
    }
    let (value, per_row) = reduce_rows(&losses, &targets.weight, options.reduction, &target_dims)?;
    composed(OP, [&x], value.to_dtype(x.dtype())?, Keep::Inputs, move |grad, _, [x]| {
        let [x] = wide([x])?;
        let row_grad = row_gradient(grad, &per_row, count)?;
        let own = weighed(&row_grad, &smooth.own)?;
        let rest = match &smooth.rest {
            Some((even, weights)) => Some((weighed(&row_grad, even)?, weights)),
            None => None,
        };
        let total = match &rest {
            Some((even, weights)) => plus(&own, &times(even, &total(weights, &[1])?)?)?,
            None => own.clone(),
        };
        // Subtracting the maximum first is exact where it matters; maximum and lse together may round lse away.
        let p = apply(Function::Exp, &minus(&minus(&x, &max)?, &lse)?)?;
        let mut dx = weighed(&p, &total)?;
        if let Some((even, weights)) = &rest {
            dx = minus(&dx, &times(even, weights)?)?;
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
        let weights = class_weights(options, classes, x)?;
        let number = |x: f64| Tensor::full(x, (), targets.weight.device())?.to_dtype(targets.weight.dtype());
        let counted = choose(&targets.counted, &number(smoothing / classes as f64)?, &number(0.)?)?;
        let own = times(&targets.weight, &number(1. - smoothing)?)?;
        Ok(Self { own, rest: Some((counted, weights)) })
    }
}

/// `(1, classes)` weights in the dtype of `x`, 1 unless given.
fn class_weights(options: &CrossEntropy, classes: usize, x: &Tensor) -> Result<Tensor> {
    Ok(match &options.weight {
        Some(weight) => weight.to_dtype(x.dtype())?.reshape((1, classes))?,
        None => Tensor::ones((1, classes), x.dtype(), x.device())?,
    })
}

/// Rows less their maximum, that maximum, and the logarithm of the sum of the exponentials of what remains.
struct Shifted {
    rows: Tensor,
    max: Tensor,
    lse: Tensor,
}

impl Shifted {
    fn new(x: &Tensor) -> Result<Self> {
        let max = x.max_keepdim(1)?;
        let rows = minus(x, &max)?;
        let lse = log_total(&apply(Function::Exp, &rows)?, 1)?;
        Ok(Self { rows, max, lse })
    }
}

fn with_probabilities(logits: &Tensor, targets: &Tensor, options: &CrossEntropy) -> Result<Tensor> {
    let [logits, targets] = float_inputs(OP, [("logits", logits), ("targets", targets)])?;
    if targets.dims() != logits.dims() {
        return Err(Error::shape(
            OP,
            "targets",
            targets.dims(),
            format!("probabilities, {:?}", logits.dims()),
        ));
    }
    let (x, target_dims) = rows(OP, &logits)?;
    let (q, _) = rows(OP, &targets)?;
    let (count, classes) = x.dims2()?;
    check_class_weight(OP, options.weight.as_ref(), classes)?;
    if classes == 0 {
        return Err(Error::shape(OP, "logits", logits.dims(), "at least one class"));
    }
    if count == 0 {
        return over_nothing(OP, &[&x, &q], x.dtype(), options.reduction, &target_dims);
    }
    let [w, wq] = wide([&x, &q.to_dtype(x.dtype())?])?;
    let weights = class_weights(options, classes, &w)?;
    let keep = 1. - options.label_smoothing;
    let spread = options.label_smoothing / classes as f64;
    // What each class's log-probability is multiplied by.
    let wq = apply(Function::Add { term: spread }, &apply(Function::Scale { factor: keep }, &wq)?)?;
    let wq = times(&wq, &weights)?;
    let Shifted { rows: shifted, lse, .. } = Shifted::new(&w)?;
    let log_p = minus(&shifted, &lse)?;
    let losses = negated(&total(&weighed(&log_p, &wq)?, &[1])?)?;
    let one = Tensor::ones((count, 1), w.dtype(), w.device())?;
    let (value, per_row) = reduce_rows(&losses, &one, options.reduction, &target_dims)?;
    composed(OP, [&x, &q], value.to_dtype(x.dtype())?, Keep::Nothing, move |grad, _, _| {
        let row_grad = row_gradient(grad, &per_row, count)?;
        // Rows without any weight are out of the loss: no gradient, whatever they hold.
        let weighs = wq.ne(0.)?.to_dtype(wq.dtype())?.max_keepdim(1)?;
        let p = apply(Function::Exp, &log_p)?;
        let dx = times(&minus(&weighed(&p, &total(&wq, &[1])?)?, &wq)?, &row_grad)?;
        let dx = weighed(&dx, &weighs)?;
        let dq = times(&weighed(&log_p, &weights)?, &(&row_grad * -keep)?)?;
        Ok([dx, dq])
    })
}
