//! The node of attention in candle's graph. Of the (T × S) matrices only the probabilities are kept for the backward pass.
//! Where keys are hidden, nothing that they or their values hold reaches a query that does not see them, nor the other
//! way round: a probability of 0 is no factor that could hide a NaN.

use backends::kernels::pointwise::Function;
use candle_core::{DType, Shape, Tensor};

use super::mask::{Mask, OP};
use crate::dtypes::accumulation_dtype;
use crate::graph::{Attribute, Backward, Op};
use crate::ops::products::product::{product, product_transposed};
use crate::plain::{apply, choose, minus, times, zero_where};
use crate::region::{cast_to, retyped};
use crate::total::total;
use crate::{Error, Result};

/// `probabilities · value` as a function of the query, the key and the value that the probabilities were made from. All
/// are untracked, flat stacks of matrices in the dtype of the products.
pub(super) struct Attention {
    pub(super) query: Tensor,
    pub(super) key: Tensor,
    pub(super) value: Tensor,
    /// `(batch, T, S)`, before dropout.
    pub(super) probabilities: Tensor,
    /// `(batch, T, S)` in the accumulation dtype: 0 where dropped, `1 / (1 - p)` where kept.
    pub(super) keep: Option<Tensor>,
    pub(super) mask: Option<Mask>,
    pub(super) scale: f64,
}

/// The gradients of one call. Those that are not wanted mean nothing.
struct Gradients {
    query: Tensor,
    key: Tensor,
    value: Tensor,
    /// Of the scores, `(batch, T, S)`, in the accumulation dtype.
    scores: Tensor,
}

/// The op in the graph.
pub(super) struct Node {
    pub(super) attention: Attention,
    /// The value before it was narrowed, if it was.
    pub(super) out: Option<Tensor>,
    /// The shapes and dtypes of the inputs: query, key, value, and what is added to the scores if that is trained.
    pub(super) inputs: Vec<(Shape, DType)>,
}

impl Op for Node {
    fn name(&self) -> &'static str {
        OP
    }

    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        vec![("scale", Attribute::Number(self.attention.scale))]
    }

    fn keeps_value(&self) -> bool {
        self.out.is_none()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let (batch, queries, _) = self.attention.query.dims3()?;
        let flat = |t: &Tensor| t.reshape((batch, queries, ()));
        let Some(out) = self.out.as_ref().or(cx.value()) else {
            return Err(Error::argument(OP, "its value", "gone", "kept"));
        };
        let Gradients { query, key, value, scores } =
            self.attention.gradients(&flat(out)?, &flat(cx.grad())?)?;
        let mut grads = vec![query, key, value];
        if let (Some(mask), Some((shape, _))) = (&self.attention.mask, self.inputs.get(3)) {
            grads.push(mask.gradient(&scores, shape.dims())?);
        }
        let grads = grads.into_iter().zip(&self.inputs);
        grads.map(|(grad, (shape, dtype))| Ok(Some(retyped(&grad.reshape(shape)?, *dtype)?))).collect()
    }
}

impl Attention {
    /// The probabilities after dropout.
    fn weights(&self) -> Result<Tensor> {
        match &self.keep {
            None => Ok(self.probabilities.clone()),
            Some(keep) => {
                let dtype = self.probabilities.dtype();
                let wide = self.probabilities.to_dtype(accumulation_dtype(dtype))?;
                Ok(times(&wide, keep)?.to_dtype(dtype)?)
            }
        }
    }

    /// The result, `(batch, T, out)`.
    pub(super) fn output(&self) -> Result<Tensor> {
        self.sums(&self.weights()?, &self.value)
    }

    /// `weights · x`, in which a weight of 0 hides a row of `x` where there is a mask.
    fn sums(&self, weights: &Tensor, x: &Tensor) -> Result<Tensor> {
        let Some(odd) = self.mask.as_ref().map(|_| Odd::of(x)).transpose()?.flatten() else {
            return product(weights, x);
        };
        let seen = product(&weights.ne(0.)?.to_dtype(x.dtype())?, &odd.is.to_dtype(x.dtype())?)?;
        let sums = product(weights, &odd.replaced)?;
        let nan = Tensor::full(f32::NAN, (), x.device())?.to_dtype(x.dtype())?;
        choose(&seen.gt(0.)?, &nan, &sums)
    }

    /// `x` for a product with what is 0 at hidden keys, and NaN already where something odd is seen.
    fn clean(&self, x: &Tensor) -> Result<Tensor> {
        let odd = self.mask.as_ref().map(|_| Odd::of(x)).transpose()?.flatten();
        Ok(odd.map_or_else(|| x.clone(), |odd| odd.replaced))
    }

    /// With `P` the probabilities and `dP` their gradient, the scores' gradient is `P ∘ (dP - rowsum(P ∘ dP))`, and that
    /// row sum equals `rowsum(grad ∘ out)`, which is the smaller product, with dropout too.
    fn gradients(&self, out: &Tensor, grad: &Tensor) -> Result<Gradients> {
        let Self { query, key, value, .. } = self;
        let dtype = query.dtype();
        let wide = accumulation_dtype(dtype);
        let grad = grad.to_dtype(dtype)?;
        let value_grad = self.sums(&self.weights()?.t()?, &grad)?;
        let row_sums = total(&times(&grad.to_dtype(wide)?, &out.to_dtype(wide)?)?, &[2])?;
        let weights_grad = product_transposed(&grad, &self.clean(value)?)?.to_dtype(wide)?;
        let probabilities_grad = match &self.keep {
            Some(keep) => times(&weights_grad, keep)?,
            None => weights_grad,
        };
        let scores = times(&minus(&probabilities_grad, &row_sums)?, &self.probabilities.to_dtype(wide)?)?;
        let scores = match &self.mask {
            Some(mask) => mask.choose(&scores, 0.)?,
            None => scores,
        };
        let narrow = scores.to_dtype(dtype)?;
        let scale = Function::Scale { factor: self.scale };
        let scaled = |product: Tensor| cast_to(&apply(scale, &cast_to(&product, wide)?)?, dtype);
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
        let nothing = Function::Scale { factor: 0. };
        let is = if x.elem_count() == 0 { return Ok(None) } else { apply(nothing, x)?.ne(0.)? };
        if x.device().is_cpu()
            && is.flatten_all()?.to_dtype(DType::U8)?.to_vec1::<u8>()?.iter().all(|&is| is == 0)
        {
            return Ok(None);
        }
        let replaced = zero_where(&is, x)?;
        Ok(Some(Self { is, replaced }))
    }
}
