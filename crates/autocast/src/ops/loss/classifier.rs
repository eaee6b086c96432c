//! linear_cross_entropy: the classifier of a language model and its loss in one op, which owns the logits.
//!
//! Nobody else sees them, so backward overwrites them with their gradient; and where they are larger than they may be, they
//! are made for some rows at a time, forward and again backward.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use backends::buffer::Ran;
use backends::kernels::cross_entropy as kernel;
use candle_core::{D, DType, Tensor};

use super::cross_entropy::cross_entropy;
use super::fused::{self, CrossEntropy};
use super::reduction::Reduction;
use super::rows::{PerRow, reduce_rows, row_gradient};
use super::targets::Targets;
use crate::dtypes::{accumulation_dtype, same_dtype};
use crate::graph::{Attribute, Backward, Op, Value, record};
use crate::ops::products::linear::affine_map;
use crate::ops::products::product::{plus, product, product_wide};
use crate::region::{cast_inputs, cast_to, uncast, widen};
use crate::{Error, Result};

const OP: &str = "linear_cross_entropy";

/// The options of [`linear_cross_entropy`].
#[derive(Clone, Debug)]
pub struct LinearCrossEntropy {
    /// Those of the loss.
    pub loss: CrossEntropy,
    /// Bytes that logits may take. More are never in memory at once, at the price of a second product in backward. The default
    /// is 2 GiB.
    pub max_bytes: usize,
}

impl Default for LinearCrossEntropy {
    fn default() -> Self {
        Self { loss: CrossEntropy::default(), max_bytes: 2 << 30 }
    }
}

/// [`cross_entropy`] of the logits `hidden · weightᵀ`.
///
/// Equal to [`linear`](crate::ops::linear) and [`cross_entropy`] one after the other, in less memory: the gradient of the logits lies
/// where they lay. In a region each part follows the rule of its name. Options that no kernel takes (class weights)
/// are those two ops.
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
    let (rows, classes) = (hidden.dim(0)?, weight.dim(0)?);
    fused::check(&options.loss)?;
    let Some(loss) = fused::by_kernel(&options.loss, classes) else { return Ok(None) };
    let wide = accumulation_dtype(hidden.dtype());
    let checked = Targets::new(fused::OP, targets, classes, loss.ignore_index, None, wide)?;
    let targets = targets.to_dtype(DType::I64)?;
    let row_bytes = classes.saturating_mul(hidden.dtype().size_in_bytes());
    let each = (options.max_bytes / row_bytes).clamp(1, rows);
    let mut classifier = Classifier {
        loss,
        hidden: hidden.detach(),
        weight: weight.detach(),
        targets,
        lse: Vec::new(),
        per_row: PerRow::Own,
        each,
        logits: Mutex::new(None),
    };
    let (mut losses, mut dtype) = (Vec::new(), wide);
    for part in classifier.parts() {
        let logits = classifier.logits_of(&part)?;
        dtype = uncast(fused::OP, &[&logits])?[0].1;
        let targets = classifier.targets.narrow(0, part.start, part.len())?;
        let Some(kernel::Losses { losses: of_part, lse }) = kernel::losses_of(loss, &logits, &targets)?
        else {
            return Ok(None);
        };
        losses.push(of_part);
        classifier.lse.push(lse);
        if each == rows && (hidden.track_op() || weight.track_op()) {
            classifier.logits = Mutex::new(Some(logits));
        }
    }
    let losses = Tensor::cat(&losses, 0)?.reshape((rows, 1))?;
    let (value, per_row) = reduce_rows(&losses, &checked.weight, options.loss.reduction, &[rows])?;
    classifier.per_row = per_row;
    let value = Value::fresh(cast_to(&value, dtype)?);
    record(classifier, &[hidden, weight], value).map(Some)
}

struct Classifier {
    loss: kernel::CrossEntropy,
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    /// Of each part.
    lse: Vec<Tensor>,
    per_row: PerRow,
    /// Rows of a part.
    each: usize,
    /// Those of all rows, until backward writes over them.
    logits: Mutex<Option<Tensor>>,
}

impl Classifier {
    fn parts(&self) -> Vec<Range<usize>> {
        let rows = self.targets.elem_count();
        (0..rows).step_by(self.each).map(|from| from..rows.min(from + self.each)).collect()
    }

    fn logits_of(&self, part: &Range<usize>) -> Result<Tensor> {
        product(&self.hidden_of(part)?, &self.weight.t()?)
    }

    fn hidden_of(&self, part: &Range<usize>) -> Result<Tensor> {
        Ok(self.hidden.narrow(0, part.start, part.len())?)
    }

    /// The gradient of a part's logits, in memory that nobody else has.
    fn logit_gradient(&self, index: usize, part: &Range<usize>, factors: &Tensor) -> Result<Tensor> {
        let kept = self.logits.lock().unwrap_or_else(PoisonError::into_inner).take();
        let logits = kept.map_or_else(|| self.logits_of(part), Ok)?;
        let of_part = |x: &Tensor| x.narrow(0, part.start, part.len());
        let (targets, factors) = (of_part(&self.targets)?, of_part(factors)?);
        match kernel::gradient_in_place(self.loss, &logits, &targets, &self.lse[index], &factors)? {
            Ran::Kernel(_) => Ok(logits),
            Ran::Composed(_) => Err(Error::refused(OP)),
        }
    }
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
        let parts = self.parts();
        let rows = self.targets.elem_count();
        let factors = row_gradient(&widen(cx.grad())?, &self.per_row, rows)?.flatten_all()?;
        let (mut hidden, mut weight) = (Vec::new(), None);
        for (index, part) in parts.iter().enumerate() {
            let grad = self.logit_gradient(index, part, &factors)?;
            if cx.wanted(0) {
                hidden.push(product(&grad, &self.weight)?);
            }
            if cx.wanted(1) {
                let (grad, x) = (grad.transpose(D::Minus1, D::Minus2)?, self.hidden_of(part)?);
                weight = Some(match weight.take() {
                    // One part is rounded once, as the gradient of linear is.
                    None if parts.len() == 1 => product(&grad, &x)?,
                    None => product_wide(&grad, &x)?,
                    Some(sum) => plus(sum, &product_wide(&grad, &x)?)?,
                });
            }
        }
        let hidden = match hidden.len() {
            0 => None,
            1 => hidden.pop(),
            _ => Some(Tensor::cat(&hidden, 0)?),
        };
        let weight = weight.map(|weight: Tensor| cast_to(&weight, self.weight.dtype())).transpose()?;
        Ok(vec![hidden, weight])
    }
}
