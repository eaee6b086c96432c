//! The node of attention in candle's graph. Of the (T × S) matrices only the probabilities are kept for the backward pass.
//! Where keys are hidden, nothing that they or their values hold reaches a query that does not see them, nor the other
//! way round: a probability of 0 is no factor that could hide a NaN.

use candle_core::{DType, Tensor};

use super::mask::Mask;
use crate::Result;
use crate::ops::product::{product, product_transposed};
use crate::ops::total::total;
use crate::prepare::{accumulation_dtype, retyped};

/// `probabilities · value` as a function of the query, the key and the value that the probabilities were made from.
pub(super) struct Attention {
    /// `(batch, T, S)`, untracked, before dropout, in the dtype of the products.
    pub(super) probabilities: Tensor,
    /// `(batch, T, S)` in the accumulation dtype: 0 where dropped, `1 / (1 - p)` where kept.
    pub(super) keep: Option<Tensor>,
    pub(super) mask: Option<Mask>,
    pub(super) scale: f64,
}

/// The gradients of one call. Those that are not wanted mean nothing.
pub(super) struct Gradients {
    pub(super) query: Tensor,
    pub(super) key: Tensor,
    pub(super) value: Tensor,
    /// Of the scores, `(batch, T, S)`, in the accumulation dtype.
    pub(super) scores: Tensor,
}

impl Attention {
    /// The probabilities after dropout.
    fn weights(&self) -> Result<Tensor> {
        match &self.keep {
            None => Ok(self.probabilities.clone()),
            Some(keep) => {
                let dtype = self.probabilities.dtype();
                let wide = self.probabilities.to_dtype(accumulation_dtype(dtype))?;
                Ok((&wide * keep)?.to_dtype(dtype)?)
            }
        }
    }

    /// The result for an untracked `(batch, S, out)` value.
    pub(super) fn output(&self, value: &Tensor) -> Result<Tensor> {
        self.sums(&self.weights()?, value)
    }

    /// `weights · x`, in which a weight of 0 hides a row of `x` where there is a mask.
    fn sums(&self, weights: &Tensor, x: &Tensor) -> Result<Tensor> {
        let Some(odd) = self.mask.as_ref().map(|_| Odd::of(x)).transpose()?.flatten() else {
            return product(weights, x);
        };
        let seen = product(&weights.ne(0.)?.to_dtype(x.dtype())?, &odd.is.to_dtype(x.dtype())?)?;
        let sums = product(weights, &odd.replaced)?;
        let nan = Tensor::full(f32::NAN, (), x.device())?.to_dtype(x.dtype())?.broadcast_as(sums.shape())?;
        Ok(seen.gt(0.)?.where_cond(&nan, &sums)?)
    }

    /// `x` for a product with what is 0 at hidden keys, and NaN already where something odd is seen.
    fn clean(&self, x: &Tensor) -> Result<Tensor> {
        let odd = self.mask.as_ref().map(|_| Odd::of(x)).transpose()?.flatten();
        Ok(odd.map_or_else(|| x.clone(), |odd| odd.replaced))
    }

    /// With `P` the probabilities and `dP` their gradient, the scores' gradient is `P ∘ (dP - rowsum(P ∘ dP))`, and that
    /// row sum equals `rowsum(grad ∘ out)`, which is the smaller product, with dropout too.
    pub(super) fn gradients(
        &self,
        [query, key, value]: [&Tensor; 3],
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<Gradients> {
        let dtype = query.dtype();
        let wide = accumulation_dtype(dtype);
        let grad = grad.to_dtype(dtype)?;
        let value_grad = self.sums(&self.weights()?.t()?, &grad)?;
        let row_sums = total(&(grad.to_dtype(wide)? * out.to_dtype(wide)?)?, &[2])?;
        let weights_grad = product_transposed(&grad, &self.clean(value)?)?.to_dtype(wide)?;
        let probabilities_grad = match &self.keep {
            Some(keep) => (weights_grad * keep)?,
            None => weights_grad,
        };
        let scores = (probabilities_grad.broadcast_sub(&row_sums)? * self.probabilities.to_dtype(wide)?)?;
        let scores = match &self.mask {
            Some(mask) => mask.choose(&scores, 0.)?,
            None => scores,
        };
        let narrow = scores.to_dtype(dtype)?;
        let scaled = |product: Tensor| retyped(&retyped(&product, wide)?.affine(self.scale, 0.)?, dtype);
        Ok(Gradients {
            query: scaled(product(&narrow, &self.clean(key)?)?)?,
            key: scaled(product(&narrow.t()?, &self.clean(query)?)?)?,
            value: value_grad,
            scores,
        })
    }
}

/// A tensor that has entries which are not finite, or may have.
struct Odd {
    /// u8: where they are.
    is: Tensor,
    /// With 0 in their place.
    replaced: Tensor,
}

impl Odd {
    /// `None` if all entries are known to be finite: on a CPU, where looking is cheap.
    fn of(x: &Tensor) -> Result<Option<Self>> {
        // Only what is not finite is not 0 after a product with 0.
        let is = if x.elem_count() == 0 { return Ok(None) } else { (x * 0.)?.ne(0.)? };
        if x.device().is_cpu()
            && is.flatten_all()?.to_dtype(DType::U8)?.to_vec1::<u8>()?.iter().all(|&is| is == 0)
        {
            return Ok(None);
        }
        let replaced = is.where_cond(&x.zeros_like()?, x)?;
        Ok(Some(Self { is, replaced }))
    }
}
