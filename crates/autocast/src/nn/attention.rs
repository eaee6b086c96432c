//! [`MultiHeadAttention`]: projections around
//! [`ops::scaled_dot_product_attention`](crate::ops::scaled_dot_product_attention). candle-nn has no such layer; the
//! parameters have PyTorch's names and initial values.

use candle_core::{D, Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::ops::shape::size::check_size;
use crate::ops::{self, AttentionDropout, AttentionOptions};
use crate::{Error, Mode, mode};

const OP: &str = "multi_head_attention";

/// Whether the projections of a [`MultiHeadAttention`] have biases, and how it attends when it is called as a
/// [`Module`].
#[derive(Debug, Clone)]
pub struct MultiHeadAttentionConfig {
    /// Whether the four projections have a bias.
    pub bias: bool,
    /// Mask, scale and dropout of [`Module::forward`], which drops in [`Mode::Train`] alone and inside
    /// [`random::with_seed`](crate::random::with_seed) draws another mask at every call.
    pub attention: AttentionOptions,
}

impl Default for MultiHeadAttentionConfig {
    fn default() -> Self {
        Self { bias: true, attention: AttentionOptions::default() }
    }
}

/// Attention in several heads, each over its share of the embedding.
#[derive(Debug, Clone)]
pub struct MultiHeadAttention {
    /// The projections of query, key and value below each other, `(3 · embed, embed)`.
    in_proj_weight: Tensor,
    in_proj_bias: Option<Tensor>,
    out_proj_weight: Tensor,
    out_proj_bias: Option<Tensor>,
    heads: usize,
    attention: AttentionOptions,
}

impl MultiHeadAttention {
    /// The output for each query; a [`Module::forward`] is this with one tensor for all three.
    ///
    /// # Shapes
    ///
    /// `query` is `(batch, T, embed)`, `key` and `value` are `(batch, S, embed)` (batch first, which is not PyTorch's
    /// default); the result is `(batch, T, embed)`. A mask broadcasts to `(batch, heads, T, S)`: one that hides padded
    /// keys is `(batch, 1, 1, S)`.
    ///
    /// # Errors
    ///
    /// As [`ops::linear`] and [`ops::scaled_dot_product_attention`].
    pub fn attend(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        options: &AttentionOptions,
    ) -> Result<Tensor> {
        let [query, key, value] = if query.id() == key.id() && key.id() == value.id() {
            let all = ops::linear(query, &self.in_proj_weight, self.in_proj_bias.as_ref())?;
            let embed = self.embed()?;
            [
                self.split(&all.narrow(D::Minus1, 0, embed)?)?,
                self.split(&all.narrow(D::Minus1, embed, embed)?)?,
                self.split(&all.narrow(D::Minus1, 2 * embed, embed)?)?,
            ]
        } else {
            [self.project(query, 0)?, self.project(key, 1)?, self.project(value, 2)?]
        };
        let heads = ops::scaled_dot_product_attention(&query, &key, &value, options)?;
        let joined = heads.transpose(1, 2)?.flatten_from(2)?;
        Ok(ops::linear(&joined, &self.out_proj_weight, self.out_proj_bias.as_ref())?)
    }

    /// The number of heads.
    pub fn heads(&self) -> usize {
        self.heads
    }

    fn embed(&self) -> Result<usize> {
        self.out_proj_weight.dim(0)
    }

    /// `input` through the `which`-th of the three projections.
    fn project(&self, input: &Tensor, which: usize) -> Result<Tensor> {
        let embed = self.embed()?;
        let weight = self.in_proj_weight.narrow(0, which * embed, embed)?;
        let bias = self.in_proj_bias.as_ref().map(|bias| bias.narrow(0, which * embed, embed)).transpose()?;
        self.split(&ops::linear(input, &weight, bias.as_ref())?)
    }

    /// `(batch, T, embed)` as `(batch, heads, T, embed / heads)`.
    fn split(&self, projected: &Tensor) -> Result<Tensor> {
        let &[batch, steps, embed] = projected.dims() else {
            return Err(Error::shape(OP, "an input", projected.dims(), "(batch, T, embed)").into());
        };
        projected.reshape((batch, steps, self.heads, embed / self.heads))?.transpose(1, 2)
    }
}

impl Module for MultiHeadAttention {
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let dropout = self.attention.dropout.filter(|_| mode() == Mode::Train);
        let dropout = dropout.map(|dropout| AttentionDropout { seed: dropout.seed.of_the_step(), ..dropout });
        let options = AttentionOptions { dropout, ..self.attention.clone() };
        self.attend(input, input, input, &options)
    }
}

/// A layer for `heads` heads over `embed` entries, its parameters named `in_proj_weight`, `in_proj_bias`,
/// `out_proj.weight` and `out_proj.bias`.
///
/// # Errors
///
/// [`Error::InvalidArgument`] if there is no embedding or the heads do not divide it, else what `vb` reports.
///
/// # Source
///
/// `torch.nn.MultiheadAttention`.
pub fn multi_head_attention(
    embed: usize,
    heads: usize,
    config: MultiHeadAttentionConfig,
    vb: VarBuilder,
) -> Result<MultiHeadAttention> {
    if embed == 0 || embed.checked_mul(4).is_none() {
        let expected = "at least 1, and four times it a size";
        return Err(Error::argument(OP, "embed", embed, expected).into());
    }
    if heads == 0 || !embed.is_multiple_of(heads) {
        let expected = format!("a divisor of the embedding, {embed}");
        return Err(Error::argument(OP, "heads", heads, expected).into());
    }
    check_size(OP, &[4, embed, embed], vb.dtype())?;
    let uniform = |bound: f64| Init::Uniform { lo: -bound, up: bound };
    // Xavier over the three projections as one matrix, then `Linear`'s own.
    let in_init = uniform((6. / (4 * embed) as f64).sqrt());
    let out_init = uniform(1. / (embed as f64).sqrt());
    let out_proj = vb.pp("out_proj");
    let bias = |vb: &VarBuilder, len: usize, name: &str| -> Result<Option<Tensor>> {
        config.bias.then(|| vb.get_with_hints(len, name, Init::Const(0.))).transpose()
    };
    Ok(MultiHeadAttention {
        in_proj_weight: vb.get_with_hints((3 * embed, embed), "in_proj_weight", in_init)?,
        in_proj_bias: bias(&vb, 3 * embed, "in_proj_bias")?,
        out_proj_weight: out_proj.get_with_hints((embed, embed), "weight", out_init)?,
        out_proj_bias: bias(&out_proj, embed, "bias")?,
        heads,
        attention: config.attention,
    })
}
