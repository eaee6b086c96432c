//! `scaled_dot_product_attention`. The softmax runs in f32 (f64 for f64). Of the (T × S) matrices only the probabilities
//! are kept for the backward pass.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp3, D, Layout, Shape, Storage, Tensor};

use super::attention_mask::Bias;
pub use super::attention_mask::{AttentionDropout, AttentionMask};
use super::float::check_float;
use super::product::{product, product_transposed};
use crate::prepare::{accumulation_dtype, cast_inputs, same_dtype, widen};
use crate::{Error, Result};

const OP: &str = "scaled_dot_product_attention";

/// What [`scaled_dot_product_attention`] takes besides its three tensors; the default is none of it.
#[derive(Debug, Clone, Default)]
pub struct AttentionOptions {
    /// Which keys a query may see.
    pub mask: AttentionMask,
    /// What the scores are multiplied by; `1 / sqrt(width)` if absent.
    pub scale: Option<f64>,
    /// Dropout on the probabilities.
    pub dropout: Option<AttentionDropout>,
}

impl AttentionOptions {
    /// Each query sees the keys up to its own position.
    pub fn causal() -> Self {
        Self { mask: AttentionMask::Causal, ..Self::default() }
    }
}

/// `softmax(scale · query · keyᵀ + mask) · value`.
///
/// A query that may see no key at all gives zeros, and no gradient, as in PyTorch.
///
/// # Shapes
///
/// `query` is `(.., T, width)`, `key` is `(.., S, width)`, `value` is `(.., S, out)`, with the same leading dimensions;
/// the result is `(.., T, out)`. A mask broadcasts to `(.., T, S)`.
///
/// # Errors
///
/// [`Error::ShapeMismatch`] where these do not fit, [`Error::DTypeMismatch`] where the dtypes differ after the region's
/// rule was applied, [`Error::InvalidArgument`] for a scale that is not finite or a dropout probability outside `[0, 1)`.
///
/// # Source
///
/// `torch.nn.functional.scaled_dot_product_attention`; the backward is that of FlashAttention (arXiv:2205.14135, B.2).
pub fn scaled_dot_product_attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    options: &AttentionOptions,
) -> Result<Tensor> {
    let [query, key, value] = cast_inputs(OP, [query, key, value])?;
    let dtype = same_dtype(OP, &[&query, &key, &value])?;
    check_float(OP, &query)?;
    let sizes = Sizes::of(&query, &key, &value)?;
    let scale = options.scale.unwrap_or(1.0 / (sizes.width as f64).sqrt());
    if !scale.is_finite() && sizes.width > 0 {
        return Err(Error::argument(OP, "scale", scale, "a finite number"));
    }
    let bias = options.mask.bias(&sizes.score_dims(), query.device(), accumulation_dtype(dtype))?;
    let keep = match &options.dropout {
        Some(dropout) => dropout.keep_mask(sizes.flat_scores(), query.device())?,
        None => None,
    };

    let mut out_dims = sizes.leading.clone();
    out_dims.extend([sizes.queries, sizes.out]);
    if sizes.is_empty() {
        // All zeros; the products keep the three inputs in the graph.
        let scores = query.matmul(&key.transpose(D::Minus2, D::Minus1)?)?;
        return Ok(scores.matmul(&value)?.reshape(out_dims)?);
    }
    // candle's 16-bit products on a CPU widen and narrow at every call; once is cheaper and loses less.
    let working = if query.device().is_cpu() { accumulation_dtype(dtype) } else { dtype };
    let flat = |t: &Tensor, rows: usize, width: usize| -> candle_core::Result<Tensor> {
        t.to_dtype(working)?.reshape((sizes.batch, rows, width))?.contiguous()
    };
    let query = flat(&query, sizes.queries, sizes.width)?;
    let key = flat(&key, sizes.keys, sizes.width)?;
    let value = flat(&value, sizes.keys, sizes.out)?;
    let out = match &bias {
        Some(bias) if bias.is_tracked() => {
            composed(&query, &key, &value, scale, bias, keep.as_ref(), &sizes)?
        }
        _ => {
            let scores = scaled_scores(&query.detach(), &key.detach(), scale)?;
            let probabilities = probabilities(scores, bias.as_ref(), &sizes)?.to_dtype(working)?;
            let op = Attention { probabilities, keep, scale };
            query.apply_op3(&key, &value, op)?
        }
    };
    Ok(out.to_dtype(dtype)?.reshape(out_dims)?)
}

/// The sizes of one call, with the leading dimensions also flattened to one `batch`.
pub(super) struct Sizes {
    pub(super) leading: Vec<usize>,
    pub(super) batch: usize,
    pub(super) queries: usize,
    pub(super) keys: usize,
    pub(super) width: usize,
    pub(super) out: usize,
}

impl Sizes {
    fn of(query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Self> {
        let [leading @ .., queries, width] = query.dims() else {
            return Err(Error::shape(OP, "a query of shape (.., T, width)", query.dims()));
        };
        let [key_leading @ .., keys, key_width] = key.dims() else {
            return Err(Error::shape(OP, "a key of shape (.., S, width)", key.dims()));
        };
        if key_leading != leading || key_width != width {
            let expected = format!("a key of shape {leading:?} + [S, {width}]");
            return Err(Error::shape(OP, expected, key.dims()));
        }
        let [value_leading @ .., value_keys, out] = value.dims() else {
            return Err(Error::shape(OP, "a value of shape (.., S, out)", value.dims()));
        };
        if value_leading != leading || value_keys != keys {
            let expected = format!("a value of shape {leading:?} + [{keys}, out]");
            return Err(Error::shape(OP, expected, value.dims()));
        }
        Ok(Self {
            leading: leading.to_vec(),
            batch: leading.iter().product(),
            queries: *queries,
            keys: *keys,
            width: *width,
            out: *out,
        })
    }

    fn is_empty(&self) -> bool {
        [self.batch, self.queries, self.keys, self.width, self.out].contains(&0)
    }

    fn score_dims(&self) -> Vec<usize> {
        let mut dims = self.leading.clone();
        dims.extend([self.queries, self.keys]);
        dims
    }

    fn flat_scores(&self) -> (usize, usize, usize) {
        (self.batch, self.queries, self.keys)
    }
}

/// `scale · query · keyᵀ` in the accumulation dtype. The scale goes onto the queries, which are the smaller.
fn scaled_scores(query: &Tensor, key: &Tensor, scale: f64) -> Result<Tensor> {
    let scaled = widen(query)?.affine(scale, 0.)?.to_dtype(query.dtype())?;
    widen(&product_transposed(&scaled, key)?)
}

/// The softmax of untracked `(batch, T, S)` scores under a mask.
fn probabilities(scores: Tensor, bias: Option<&Bias>, sizes: &Sizes) -> Result<Tensor> {
    let softmax = |scores: &Tensor| candle_nn::ops::softmax_last_dim(&scores.contiguous()?);
    let Some(bias) = bias else { return Ok(softmax(&scores)?) };
    let scores = scores.reshape(sizes.score_dims())?.broadcast_add(&bias.add)?;
    let probabilities = softmax(&scores)?;
    let probabilities = match &bias.seen {
        Some(seen) => probabilities.broadcast_mul(seen)?,
        None => probabilities,
    };
    Ok(probabilities.reshape(sizes.flat_scores())?)
}

/// The same from candle's own differentiable ops, for a mask that is itself trained.
fn composed(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    scale: f64,
    bias: &Bias,
    keep: Option<&Tensor>,
    sizes: &Sizes,
) -> Result<Tensor> {
    let scores = scaled_scores(query, key, scale)?.reshape(sizes.score_dims())?.broadcast_add(&bias.add)?;
    // The maximum only shifts the exponents: no gradient belongs to it.
    let shifted = scores.broadcast_sub(&scores.detach().max_keepdim(D::Minus1)?)?;
    let weights = shifted.exp()?;
    let probabilities = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
    let probabilities = match &bias.seen {
        Some(seen) => probabilities.broadcast_mul(seen)?,
        None => probabilities,
    };
    let probabilities = probabilities.reshape(sizes.flat_scores())?;
    let probabilities = match keep {
        Some(keep) => probabilities.mul(&keep.to_dtype(probabilities.dtype())?)?,
        None => probabilities,
    };
    Ok(product(&probabilities.to_dtype(value.dtype())?, value)?)
}

/// `probabilities · value` as a function of the query, the key and the value that the probabilities were made from.
struct Attention {
    /// `(batch, T, S)`, untracked, before dropout, in the dtype of the products.
    probabilities: Tensor,
    /// `(batch, T, S)` in f32: 0 where dropped, `1 / (1 - p)` where kept.
    keep: Option<Tensor>,
    scale: f64,
}

impl Attention {
    /// The probabilities after dropout.
    fn weights(&self) -> candle_core::Result<Tensor> {
        match &self.keep {
            None => Ok(self.probabilities.clone()),
            Some(keep) => {
                let dtype = self.probabilities.dtype();
                let wide = self.probabilities.to_dtype(accumulation_dtype(dtype))?;
                (&wide * keep.to_dtype(wide.dtype())?)?.to_dtype(dtype)
            }
        }
    }

    fn weigh<S: BackendStorage>(
        weights: &S,
        weights_l: &Layout,
        value: &S,
        value_l: &Layout,
    ) -> candle_core::Result<(S, Shape)> {
        let (batch, queries, keys) = weights_l.shape().dims3()?;
        let (_, _, out) = value_l.shape().dims3()?;
        let product = weights.matmul(value, (batch, queries, out, keys), weights_l, value_l)?;
        Ok((product, (batch, queries, out).into()))
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        _query: &CpuStorage,
        _query_l: &Layout,
        _key: &CpuStorage,
        _key_l: &Layout,
        value: &CpuStorage,
        value_l: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let weights = self.weights()?;
        let (storage, layout) = weights.storage_and_layout();
        match &*storage {
            Storage::Cpu(weights) => Self::weigh(weights, layout, value, value_l),
            _ => candle_core::bail!("attention: query and value are on different devices"),
        }
    }

    fn cuda_fwd(
        &self,
        _query: &CudaStorage,
        _query_l: &Layout,
        _key: &CudaStorage,
        _key_l: &Layout,
        value: &CudaStorage,
        value_l: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        let weights = self.weights()?;
        let (storage, layout) = weights.storage_and_layout();
        match &*storage {
            Storage::Cuda(weights) => Self::weigh(weights, layout, value, value_l),
            _ => candle_core::bail!("attention: query and value are on different devices"),
        }
    }

    /// With `P` the probabilities and `dP` their gradient, the scores' gradient is `P ∘ (dP - rowsum(P ∘ dP))`, and that
    /// row sum equals `rowsum(grad ∘ out)`, which is the smaller product, with dropout too.
    fn bwd(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let wanted = [query.track_op(), key.track_op(), value.track_op()];
        let (query, key, value) = (query.detach(), key.detach(), value.detach());
        let (out, grad) = (out.detach(), grad.detach().contiguous()?);
        let dtype = query.dtype();
        let wide = accumulation_dtype(dtype);
        let value_grad = wanted[2].then(|| product(&self.weights()?.t()?, &grad)).transpose()?;
        if !wanted[0] && !wanted[1] {
            return Ok((None, None, value_grad));
        }
        let row_sums = (grad.to_dtype(wide)? * out.to_dtype(wide)?)?.sum_keepdim(D::Minus1)?;
        let weights_grad = product_transposed(&grad, &value)?.to_dtype(wide)?;
        let probabilities_grad = match &self.keep {
            Some(keep) => (weights_grad * keep.to_dtype(wide)?)?,
            None => weights_grad,
        };
        let scores_grad =
            (probabilities_grad.broadcast_sub(&row_sums)? * self.probabilities.to_dtype(wide)?)?;
        let scores_grad = scores_grad.to_dtype(dtype)?;
        let scaled = |product: Tensor| product.to_dtype(wide)?.affine(self.scale, 0.)?.to_dtype(dtype);
        let query_grad = wanted[0].then(|| scaled(product(&scores_grad, &key)?)).transpose()?;
        let key_grad = wanted[1].then(|| scaled(product(&scores_grad.t()?, &query)?)).transpose()?;
        Ok((query_grad, key_grad, value_grad))
    }
}
