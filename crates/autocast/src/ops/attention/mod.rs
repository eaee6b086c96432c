//! `scaled_dot_product_attention`. The softmax runs in f32 (f64 for f64).

mod mask;
mod node;

use candle_core::{D, Tensor};
use mask::Bias;
pub use mask::{AttentionDropout, AttentionMask};
use node::Attention;

use super::node::apply;
use super::product::{product, product_transposed};
use crate::prepare::{accumulation_dtype, cast_inputs, check_float, same_dtype, widen};
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
        Some(dropout) => dropout.keep_mask(sizes.flat_scores(), query.device(), accumulation_dtype(dtype))?,
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
            apply(op, [&query, &key, &value])?
        }
    };
    Ok(out.to_dtype(dtype)?.reshape(out_dims)?)
}

/// The sizes of one call, with the leading dimensions also flattened to one `batch`.
struct Sizes {
    leading: Vec<usize>,
    batch: usize,
    queries: usize,
    keys: usize,
    width: usize,
    out: usize,
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
        Some(keep) => probabilities.mul(keep)?,
        None => probabilities,
    };
    Ok(product(&probabilities.to_dtype(value.dtype())?, value)?)
}
