//! The node of attention in candle's graph. Of the (T × S) matrices only the probabilities are kept for the backward pass.

use candle_core::{D, Result, Shape, Tensor};

use crate::ops::node::{DeviceStorage, Op, View};
use crate::ops::product::{product, product_transposed};
use crate::prepare::accumulation_dtype;

/// `probabilities · value` as a function of the query, the key and the value that the probabilities were made from.
pub(super) struct Attention {
    /// `(batch, T, S)`, untracked, before dropout, in the dtype of the products.
    pub(super) probabilities: Tensor,
    /// `(batch, T, S)` in the accumulation dtype: 0 where dropped, `1 / (1 - p)` where kept.
    pub(super) keep: Option<Tensor>,
    pub(super) scale: f64,
}

impl Attention {
    /// The probabilities after dropout.
    fn weights(&self) -> Result<Tensor> {
        match &self.keep {
            None => Ok(self.probabilities.clone()),
            Some(keep) => {
                let dtype = self.probabilities.dtype();
                let wide = self.probabilities.to_dtype(accumulation_dtype(dtype))?;
                (&wide * keep)?.to_dtype(dtype)
            }
        }
    }
}

impl Op<3> for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn forward<S: DeviceStorage>(&self, [_, _, value]: [View<S>; 3]) -> Result<(S, Shape)> {
        let weights = self.weights()?;
        let (storage, layout) = weights.storage_and_layout();
        let Some(storage) = S::of(&storage) else {
            candle_core::bail!("attention: query and value are on different devices");
        };
        let (batch, queries, keys) = layout.shape().dims3()?;
        let (_, _, out) = value.1.shape().dims3()?;
        let product = storage.matmul(value.0, (batch, queries, out, keys), layout, value.1)?;
        Ok((product, (batch, queries, out).into()))
    }

    /// With `P` the probabilities and `dP` their gradient, the scores' gradient is `P ∘ (dP - rowsum(P ∘ dP))`, and that
    /// row sum equals `rowsum(grad ∘ out)`, which is the smaller product, with dropout too.
    fn backward(
        &self,
        [query, key, value]: [&Tensor; 3],
        out: &Tensor,
        grad: &Tensor,
        wanted: [bool; 3],
    ) -> Result<[Option<Tensor>; 3]> {
        let dtype = query.dtype();
        let wide = accumulation_dtype(dtype);
        let value_grad = wanted[2].then(|| product(&self.weights()?.t()?, grad)).transpose()?;
        if !wanted[0] && !wanted[1] {
            return Ok([None, None, value_grad]);
        }
        let row_sums = (grad.to_dtype(wide)? * out.to_dtype(wide)?)?.sum_keepdim(D::Minus1)?;
        let weights_grad = product_transposed(grad, value)?.to_dtype(wide)?;
        let probabilities_grad = match &self.keep {
            Some(keep) => (weights_grad * keep)?,
            None => weights_grad,
        };
        let scores_grad =
            (probabilities_grad.broadcast_sub(&row_sums)? * self.probabilities.to_dtype(wide)?)?;
        let scores_grad = scores_grad.to_dtype(dtype)?;
        let scaled = |product: Tensor| product.to_dtype(wide)?.affine(self.scale, 0.)?.to_dtype(dtype);
        let query_grad = wanted[0].then(|| scaled(product(&scores_grad, key)?)).transpose()?;
        let key_grad = wanted[1].then(|| scaled(product(&scores_grad.t()?, query)?)).transpose()?;
        Ok([query_grad, key_grad, value_grad])
    }
}
