//! Attention with its probabilities kept, by products and the softmax kernel: full and causal, in f32 and f64.
//!
//! What a query does not see is neither read nor written but as 0. What is not finite would still pass a factor of 0 in a
//! product, so that causal sums are taken of finite numbers, and marked afterwards where they see others.

use backends::buffer::Ran;
use backends::kernels::finite::{SeenBy, finite_of, spread_to};
use backends::kernels::softmax::{Form, Seen, gradient_of, value_of};
use candle_core::{D, Shape, Tensor};

use super::mask::OP;
use crate::graph::{Attribute, Backward, Op};
use crate::ops::products::product::{product, product_transposed};
use crate::{Error, Result};

/// Attention of untracked flat stacks of matrices, `(batch, rows, width)`.
pub(super) struct Stored {
    query: Tensor,
    key: Tensor,
    value: Tensor,
    /// `(batch, T, S)`.
    probabilities: Tensor,
    causal: bool,
    scale: f64,
    /// Of the inputs.
    shapes: [Shape; 3],
}

impl Stored {
    /// What is to be recorded, and its value, `(batch, T, out)`. `None` where no kernel takes the call.
    pub(super) fn of(
        flat: [Tensor; 3],
        shapes: [Shape; 3],
        causal: bool,
        scale: f64,
    ) -> Result<Option<(Self, Tensor)>> {
        let [query, key, value] = flat;
        let scores = product_transposed(&query.affine(scale, 0.)?, &key)?;
        let seen = seen(causal, &scores)?;
        let Some(probabilities) = value_of(Form::Softmax, seen, &scores, scores.dtype())? else {
            return Ok(None);
        };
        let Some(out) = sum(&probabilities, &value, causal.then_some(SeenBy::Later))? else {
            return Ok(None);
        };
        Ok(Some((Self { query, key, value, probabilities, causal, scale, shapes }, out)))
    }
}

/// What a row of `(batch, T, S)` sees.
fn seen(causal: bool, scores: &Tensor) -> Result<Seen> {
    Ok(if causal { Seen::Causal { rows: scores.dim(D::Minus2)? } } else { Seen::Whole })
}

/// `weights · x`, in which what is not finite in `x` reaches those that see it. `None` where no kernel takes the call.
fn sum(weights: &Tensor, x: &Tensor, seen_by: Option<SeenBy>) -> Result<Option<Tensor>> {
    let Some(by) = seen_by else { return product(weights, x).map(Some) };
    let Some(finite) = finite_of(x)? else { return Ok(None) };
    let sum = product(weights, &finite)?;
    Ok(match spread_to(&sum, x, by)? {
        Ran::Kernel(_) => Some(sum),
        Ran::Composed(_) => None,
    })
}

impl Op for Stored {
    fn name(&self) -> &'static str {
        OP
    }

    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        let mask = if self.causal { "causal" } else { "none" };
        vec![("scale", Attribute::Number(self.scale)), ("mask", Attribute::Word(mask))]
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let Self { query, key, value, probabilities, causal, scale, .. } = self;
        let refused = || Error::refused(OP);
        let (batch, rows, _) = query.dims3()?;
        let grad = cx.grad().reshape((batch, rows, ()))?.contiguous()?;
        let value_grad = sum(&probabilities.t()?, &grad, causal.then_some(SeenBy::Earlier))?;
        let value_grad = value_grad.ok_or_else(refused)?;
        let weights_grad = product_transposed(&grad, value)?;
        let seen = seen(*causal, probabilities)?;
        let scores = gradient_of(Form::Softmax, seen, probabilities, &weights_grad, weights_grad.dtype())?;
        let scores = scores.ok_or_else(refused)?;
        // Where something odd is seen, the scores' gradient is NaN already.
        let finite = |x: &Tensor| match causal {
            true => finite_of(x)?.ok_or_else(refused),
            false => Ok(x.clone()),
        };
        let query_grad = product(&scores, &finite(key)?)?.affine(*scale, 0.)?;
        let key_grad = product(&scores.t()?, &finite(query)?)?.affine(*scale, 0.)?;
        let grads = [query_grad, key_grad, value_grad].into_iter().zip(&self.shapes);
        grads.map(|(grad, shape)| Ok(Some(grad.reshape(shape)?))).collect()
    }
}
