//! linear_cross_entropy: the classifier of a language model and its loss in one op, which owns the logits.
//!
//! Nobody else sees them, so they are made for some rows at a time, and overwritten with their gradient at once, of which the
//! gradients of what they were made of come. Backward has but to multiply these by the gradient of the loss, which is one number.

use backends::kernels::cross_entropy as kernel;
use backends::kernels::scale_by::scaled_by;
use candle_core::{DType, Tensor};

use super::cross_entropy::cross_entropy;
use super::fused::{self, CrossEntropy};
use super::reduction::Reduction;
use super::rows::{PerRow, reduce_rows};
use super::targets::Targets;
use crate::dtypes::{accumulation_dtype, same_dtype};
use crate::graph::{Attribute, Backward, Op, Value, record};
use crate::ops::products::linear::affine_map;
use crate::ops::products::product::{product, product_onto, product_wide};
use crate::region::{cast_inputs, cast_to, uncast, widen};
use crate::{Error, Result};

const OP: &str = "linear_cross_entropy";

/// The options of [`linear_cross_entropy`].
#[derive(Clone, Debug)]
pub struct LinearCrossEntropy {
    /// Those of the loss.
    pub loss: CrossEntropy,
    /// Bytes that logits may take: more are never in memory at once. The default is 1 GiB.
    pub max_bytes: usize,
}

impl Default for LinearCrossEntropy {
    fn default() -> Self {
        Self { loss: CrossEntropy::default(), max_bytes: 1 << 30 }
    }
}

/// [`cross_entropy`] of the logits `hidden · weightᵀ`.
///
/// Equal to [`linear`](crate::ops::linear) and [`cross_entropy`] one after the other, in less memory: of the logits there are never
/// more than `max_bytes`. Gradients are made with the loss, so that a loss which nobody differentiates is better taken of detached
/// tensors. In a region each part follows the rule of its name. Options with class weights, or a loss of each row, are those two ops.
///
/// # Shapes
///
/// `hidden` is `(.., in)`, `weight` is `(classes, in)`, `targets` are integers `(..)`; the loss is a scalar, or `(..)` where each is
/// kept.
///
/// # Errors
///
/// As [`linear`](crate::ops::linear) and [`cross_entropy`].
pub fn linear_cross_entropy(
    hidden: &Tensor,
    weight: &Tensor,
    targets: &Tensor,
    options: &LinearCrossEntropy,
) -> Result<Tensor> {
    let [hidden, weight] = cast_inputs("linear", [hidden, weight])?;
    same_dtype(OP, [("hidden", &hidden), ("weight", &weight)])?;
    let (leading, width) = match hidden.dims() {
        [leading @ .., width] if weight.dims().get(1) == Some(width) && weight.rank() == 2 => {
            (leading, *width)
        }
        dims => return Err(Error::shape(OP, "hidden", dims, format!("(.., in) for {:?}", weight.dims()))),
    };
    if targets.dims() != leading {
        return Err(Error::shape(OP, "targets", targets.dims(), format!("{leading:?}")));
    }
    let rows = leading.iter().product::<usize>();
    let (flat, targets) = (hidden.reshape((rows, width))?, targets.detach().flatten_all()?);
    let shaped = |loss: Tensor| match options.loss.reduction {
        Reduction::None => Ok(loss.reshape(leading)?),
        _ => Ok(loss),
    };
    let has_elements = rows * width * weight.dim(0)? > 0;
    if has_elements
        && targets.dtype().is_int()
        && let Some(loss) = in_one(&flat, &weight, &targets, options)?
    {
        return shaped(loss);
    }
    shaped(cross_entropy(&affine_map(OP, &flat, &weight, None)?, &targets, &options.loss)?)
}

/// By the kernels, if they take it.
fn in_one(
    hidden: &Tensor,
    weight: &Tensor,
    targets: &Tensor,
    options: &LinearCrossEntropy,
) -> Result<Option<Tensor>> {
    let (rows, classes, dtype) = (hidden.dim(0)?, weight.dim(0)?, hidden.dtype());
    fused::check(&options.loss)?;
    if options.loss.weight.is_some() || options.loss.reduction == Reduction::None {
        return Ok(None);
    }
    let loss = fused::by_kernel(&options.loss, classes);
    let wide = accumulation_dtype(dtype);
    let checked = Targets::new(fused::OP, targets, classes, loss.ignore_index, None, wide)?;
    let targets = targets.to_dtype(DType::I64)?;
    let row_bytes = classes.saturating_mul(dtype.size_in_bytes());
    let each = (options.max_bytes / row_bytes).clamp(1, rows);
    let mut sums =
        Gradients { loss, wanted: [hidden.track_op(), weight.track_op()], hidden: Vec::new(), weight: None };
    let (hidden_values, weight_values) = (hidden.detach(), weight.detach());
    let (mut losses, mut loss_dtype) = (Vec::new(), wide);
    for from in (0..rows).step_by(each) {
        let part = |x: &Tensor| x.narrow(0, from, each.min(rows - from));
        let hidden = part(&hidden_values)?;
        let logits = product(&hidden, &weight_values.t()?)?;
        loss_dtype = uncast(fused::OP, &[&logits])?[0].1;
        match sums.add(logits, &part(&targets)?, &hidden, &weight_values)? {
            Some(of_part) => losses.push(of_part),
            None => return Ok(None),
        }
    }
    let losses = Tensor::cat(&losses, 0)?.reshape((rows, 1))?;
    let (value, per_row) = reduce_rows(&losses, &checked.weight, options.loss.reduction, &[rows])?;
    let value = Value::fresh(cast_to(&value, loss_dtype)?);
    let PerRow::Shared(share) = per_row else { return Ok(None) };
    let Gradients { hidden: parts, weight: weight_sum, .. } = sums;
    let hidden_sum = if parts.is_empty() { None } else { Some(Tensor::cat(&parts, 0)?) };
    let share = (share / factor(dtype))?;
    let op = Classifier {
        loss,
        each,
        share,
        gradients: [hidden_sum, weight_sum],
        dtypes: [dtype, weight.dtype()],
    };
    record(op, &[hidden, weight], value).map(Some)
}

/// What the gradient of a row's loss is where gradients are made: probabilities of f16 logits would be too small for f16.
fn factor(logits: DType) -> f64 {
    if logits == DType::F16 { 32_768. } else { 1. }
}

/// The gradients so far, in f32 (f64 of f64), of losses whose own are [`factor`].
struct Gradients {
    loss: kernel::CrossEntropy,
    wanted: [bool; 2],
    /// Of each part.
    hidden: Vec<Tensor>,
    weight: Option<Tensor>,
}

impl Gradients {
    /// The losses of some rows, whose gradients are added.
    fn add(
        &mut self,
        logits: Tensor,
        targets: &Tensor,
        hidden: &Tensor,
        weight: &Tensor,
    ) -> Result<Option<Tensor>> {
        if self.wanted == [false; 2] {
            return Ok(
                kernel::losses_of(self.loss, &logits, targets)?.map(|kernel::Losses { losses, .. }| losses)
            );
        }
        let factor = factor(logits.dtype());
        let Some(losses) = kernel::losses_then_gradient(self.loss, &logits, targets, factor)? else {
            return Ok(None);
        };
        // What were logits.
        let grad = logits;
        if self.wanted[0] {
            self.hidden.push(product_wide(&grad, weight)?);
        }
        if self.wanted[1] {
            let grad = grad.t()?;
            self.weight = Some(match self.weight.take() {
                None => product_wide(&grad, hidden)?,
                Some(sum) => product_onto(sum, &grad, hidden)?,
            });
        }
        Ok(Some(losses))
    }
}

struct Classifier {
    loss: kernel::CrossEntropy,
    /// Rows at a time.
    each: usize,
    /// What gradients are to be multiplied by beside that of the loss.
    share: Tensor,
    /// Of the hidden rows and the weight, where they are wanted.
    gradients: [Option<Tensor>; 2],
    dtypes: [DType; 2],
}

impl Op for Classifier {
    fn name(&self) -> &'static str {
        OP
    }

    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        vec![
            ("ignore_index", Attribute::Integer(self.loss.ignore_index)),
            ("label_smoothing", Attribute::Number(self.loss.label_smoothing)),
            ("rows at a time", self.each.into()),
        ]
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let factor = (widen(cx.grad())? * &self.share)?;
        let mut gradients = Vec::new();
        for (input, (gradient, dtype)) in self.gradients.iter().zip(self.dtypes).enumerate() {
            gradients.push(match gradient {
                Some(gradient) if cx.wanted(input) => {
                    Some(scaled_by(gradient, &factor, dtype)?.ok_or_else(|| Error::refused(OP))?)
                }
                _ => None,
            });
        }
        Ok(gradients)
    }
}
