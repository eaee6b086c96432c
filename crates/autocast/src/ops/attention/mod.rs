//! `scaled_dot_product_attention`. The softmax runs in f32 (f64 for f64).

mod fused;
mod mask;
mod node;
mod stored;

use backends::kernels::pointwise::Function;
use candle_core::{D, Tensor};
pub use mask::{AttentionDropout, AttentionMask, AttentionOptions};
use mask::{Mask, OP};
use node::{Attention, Node};

use crate::dtypes::{accumulation_dtype, check_float, same_dtype};
use crate::graph::{Value, record};
use crate::ops::products::product::product_transposed;
use crate::ops::shape::empty::without_gradient;
use crate::ops::shape::size::check_size;
use crate::ops::softmax::softmax_wide;
use crate::plain::apply;
use crate::region::{cast_inputs, cast_to, retyped, widen};
use crate::{Error, Result};

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
/// [`Error::InvalidArgument`] where these do not fit or the dtypes differ after the region's rule was applied, for a
/// scale that is not finite or a dropout probability outside `[0, 1)`.
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
    let dtype = same_dtype(OP, [("query", &query), ("key", &key), ("value", &value)])?;
    check_float(OP, "query", &query)?;
    let sizes = Sizes::of(&query, &key, &value)?;
    let scale = options.scale.unwrap_or(1.0 / (sizes.width.max(1) as f64).sqrt());
    if !scale.is_finite() {
        return Err(Error::argument(OP, "scale", scale, "a finite number"));
    }
    let mut out_dims = sizes.leading.clone();
    out_dims.extend([sizes.queries, sizes.out]);
    options.mask.check(&sizes.score_dims())?;
    if out_dims.contains(&0) || sizes.keys == 0 {
        // No key, no query, or nothing to tell.
        let zeros = Tensor::zeros(out_dims, dtype, query.device())?;
        let mut inputs = vec![&query, &key, &value];
        inputs.extend(options.mask.trained());
        return without_gradient(OP, &inputs, zeros);
    }
    if let Some(value) = fused::value([&query, &key, &value], scale, options)? {
        return Ok(value);
    }
    check_size(OP, &sizes.score_dims(), accumulation_dtype(dtype))?;
    let causal = match options.mask {
        AttentionMask::None => Some(false),
        AttentionMask::Causal => Some(true),
        AttentionMask::Boolean(_) | AttentionMask::Additive(_) => None,
    };
    let drops = options.dropout.is_some_and(|dropout| dropout.p != 0.);
    if let Some(causal) = causal.filter(|_| !drops && dtype == accumulation_dtype(dtype))
        && let Some(value) = stored::value([&query, &key, &value], &out_dims, causal, scale)?
    {
        return Ok(value);
    }
    // A CPU may widen and narrow 16 bits at every product; once is cheaper and loses less.
    let working = if query.device().is_cpu() { accumulation_dtype(dtype) } else { dtype };
    let flat = |t: &Tensor, rows: usize, width: usize| -> candle_core::Result<Tensor> {
        retyped(&t.detach(), working)?.reshape((sizes.batch, rows, width))?.contiguous()
    };
    let (q, k, v) = (
        flat(&query, sizes.queries, sizes.width)?,
        flat(&key, sizes.keys, sizes.width)?,
        flat(&value, sizes.keys, sizes.out)?,
    );
    let mask = options.mask.mask(&sizes.score_dims(), query.device(), accumulation_dtype(dtype))?;
    let keep = match &options.dropout {
        Some(dropout) => dropout.keep_mask(sizes.flat_scores(), query.device(), accumulation_dtype(dtype))?,
        None => None,
    };
    let probabilities = probabilities(scaled_scores(&q, &k, scale)?, mask.as_ref())?.to_dtype(working)?;
    let attention = Attention { query: q, key: k, value: v, probabilities, keep, mask, scale };
    let out = attention.output()?;
    let narrow = retyped(&out, dtype)?.reshape(out_dims)?;
    let mut inputs = vec![&query, &key, &value];
    inputs.extend(options.mask.trained());
    let dims = inputs.iter().map(|t| (t.shape().clone(), t.dtype())).collect();
    // The value itself is kept where it has lost nothing.
    let out = (working != dtype).then_some(out);
    record(Node { attention, out, inputs: dims }, &inputs, Value::fresh(narrow))
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
            return Err(Error::shape(OP, "query", query.dims(), "(.., T, width)"));
        };
        let [key_leading @ .., keys, key_width] = key.dims() else {
            return Err(Error::shape(OP, "key", key.dims(), "(.., S, width)"));
        };
        if key_leading != leading || key_width != width {
            let expected = format!("{leading:?} + [S, {width}]");
            return Err(Error::shape(OP, "key", key.dims(), expected));
        }
        let [value_leading @ .., value_keys, out] = value.dims() else {
            return Err(Error::shape(OP, "value", value.dims(), "(.., S, out)"));
        };
        if value_leading != leading || value_keys != keys {
            let expected = format!("{leading:?} + [{keys}, out]");
            return Err(Error::shape(OP, "value", value.dims(), expected));
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
    let scaled = cast_to(&apply(Function::Scale { factor: scale }, &widen(query)?)?, query.dtype())?;
    widen(&product_transposed(&scaled, key)?)
}

/// The softmax of untracked `(batch, T, S)` scores under a mask.
fn probabilities(scores: Tensor, mask: Option<&Mask>) -> Result<Tensor> {
    match mask {
        None => softmax_rows(&scores),
        // Chosen again afterwards: the softmax over no key is NaN.
        Some(mask) => mask.choose(&softmax_rows(&mask.scores(&scores)?)?, 0.),
    }
}

/// Keys up to which candle's softmax, which adds one after another in f32, is as accurate as a sum in pairs is in practice.
const FEW_KEYS: usize = 4096;

fn softmax_rows(scores: &Tensor) -> Result<Tensor> {
    match scores.dim(D::Minus1)? {
        0..=FEW_KEYS => Ok(candle_nn::ops::softmax_last_dim(&scores.contiguous()?)?),
        _ => softmax_wide(scores, scores.rank() - 1),
    }
}
