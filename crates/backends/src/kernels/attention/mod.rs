//! Scaled dot-product attention, forward and backward, without a tensor of queries times keys.
//!
//! `out = P · value` with `P = softmax(scale · query · keyᵀ)` over the keys that a query sees, and `lse` the logarithm of the
//! softmax's denominator. Of the gradient `g` of `out`, with `D = rowsum(g ∘ out)` and `S' = P ∘ (g · valueᵀ − D)`:
//! `dvalue = Pᵀ · g`, `dquery = scale · S' · key` and `dkey = scale · S'ᵀ · query`. `P` is never stored: the forward pass walks
//! the keys in tiles with a running maximum and sum, the backward pass makes each tile again from `lse`. With dropout, `P` is
//! multiplied by what [`Dropout`] says before the product with the values, and so is `g · valueᵀ`; `lse` is without it.
//!
//! A query that sees no key has `out = 0`, `lse = −∞` and no gradient. With [`Mask::Causal`] a query sees the keys up to its
//! own position, counted from the first of each, so that this happens only where there are no keys at all, or where the bias
//! hides them: on a CPU a bias is added to the scores, and where it is −∞, or 0 in u8, the query does not see the key.
//!
//! Contract, on a GPU, for f16 and bf16 of unit roundoff `u` (2⁻¹¹ and 2⁻⁸): products are exact and added in f32, where an
//! addition may cut off instead of rounding; the softmax is f32. With `ε = width · 2⁻²³ · |scale| · Σ|query · key| +
//! 2⁻²² · |score| + 2⁻²¹` for the error of a score and of its exponential, `lse` is off by at most `ε`, and
//!
//! - `out` by `(u + 2ε + keys · 2⁻²³) · Σ P|value| + u·|out|`: `P` is rounded to the dtype before the product, and the result;
//! - `dvalue` by the same with `Pᵀ`, `|g|` and the number of queries;
//! - `dquery` and `dkey` by `(u + 2ε + n · 2⁻²³) · |scale| · Σ|S'·x| + |scale| · Σ P·|δ|·|x|` and a rounding, `x` being keys or
//!   queries, and `δ = (width · 2⁻²² + u) · Σ|g·value|` what `g · valueᵀ − D` loses, `D` being of the rounded `out`.
//!
//! `P` and `S'` are rounded to the dtype there: in f16 those below 2⁻¹⁴ are off by 2⁻²⁵ and not by `u`, and an `S'` beyond 65504 is
//! infinite, which is what a scaled loss is watched for.
//!
//! Contract, on a GPU, for f32: a factor of a product is the sum of the TF32 nearest to it and of 11 bits of the rest, off by at most
//! 2⁻²³ of it, and of the four products of parts the smallest is left out: a product is off by 2⁻²¹. Those of large parts are added in
//! f32 as tensor cores do, those with a small part by themselves, and both sums at the end. With `ε = (width + 8) · 2⁻²³ · |scale| ·
//! Σ|query · key| + 2⁻²² · |score| + 2⁻²¹`, `lse` is off by at most `ε + keys · 2⁻²⁵`, and
//!
//! - `out` by `(2ε + 36 · 2⁻²³ + keys · 2⁻²⁵) · Σ P|value|`, `dvalue` by the same with `Pᵀ`, `|g|` and the number of queries: no more than
//!   32 terms are added where additions may cut off, and these sums with rounding;
//! - `dquery` and `dkey` by `(2ε + 36 · 2⁻²³ + n · 2⁻²⁵) · |scale| · Σ|S'·x| + |scale| · Σ P·|δ|·|x|`, with `δ = (width + 8) · 2⁻²³ ·
//!   Σ|g·value| + (2ε + 36 · 2⁻²³ + keys · 2⁻²⁵ + width · 2⁻²⁴) · Σ P · Σ|g·value|`, the outer sum over the query's keys.
//!
//! An f32 below 2⁻¹¹⁵ may keep 11 bits, and one within 2⁻¹¹ of the largest becomes infinite.
//!
//! Numbers that are not finite come out as NaN or infinite wherever they are seen, of f32 as NaN. Unlike the composed form, which hides them
//! from queries that do not see them, they may reach queries and keys of the same tile, where a probability of 0 meets them:
//! whether everything is finite is the same, which element is not may differ. What no query sees reaches nothing.
//!
//! Contract, on a CPU: everything is computed in f32 (f64 for f64), 16-bit numbers being widened, and rounded once. With `u` the
//! unit roundoff of the dtype, `e` that of the arithmetic (2⁻²⁴; 2⁻⁵³ for f64, whose `lse` is f64 too) and `ε` the largest
//! `2e · width · |scale| · Σ|query · key| + 4e · |score| + 8e` of the keys that a query sees, `lse` is off by at most
//! `ε + 2e · keys`, and
//!
//! - `out` by `(2ε + 2e · keys) · Σ P|value|` and a rounding;
//! - `dvalue` by the same with `Pᵀ`, `|g|` and the number of queries, each with its `ε`, and a rounding;
//! - `dquery` and `dkey` by `|scale| · Σ ((2ε + 2e · n) · |S'| + P·δ) · |x|` and a rounding, `x` being the `n` keys or queries, and
//!   `δ = 4e · width · Σ|g·value| + (u + 2ε + 2e · keys + 4e · width) · Σ P · Σ|g·value|`, the outer sum over the query's keys.
//!
//! Where `ε` is not small, `2ε` is `e^2ε − 1`. What is not finite reaches the queries and keys that see it and no others,
//! as in the composed form; a head that is hidden something and is not finite takes many times as long. The products add
//! in an order that depends on the sizes and the processor, and not on the number of threads.
//!
//! Nothing is added atomically: results do not vary from run to run, and the sum over keys of a query is in their order.
//!
//! # Source
//!
//! Dao et al., FlashAttention, 2022 (arXiv:2205.14135); Dao, FlashAttention-2, 2023 (arXiv:2307.08691).

mod checks;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
#[cfg(test)]
mod gpu_tests;
mod host;
#[cfg(feature = "cuda")]
mod modules;
mod scalar;
#[cfg(feature = "candle")]
mod tensors;
#[cfg(test)]
mod tests;

pub use scalar::{Problem, backward_scalar, forward_scalar};
#[cfg(feature = "candle")]
pub use tensors::{Attended, GradientOrder, Gradients, Tensors, gradients_of, value_of};

#[cfg(feature = "cuda")]
use checks::in_chunks;
use checks::{Sizes, check, fits_rows, lse_type, operand, untaken};

use crate::Result;
use crate::buffer::{In, Out, Place, Ran, Why};
use crate::simd::Isa;

const OP: &str = "attention";

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// All.
    Full,
    /// Those up to the query's own position.
    Causal,
}

/// Dropout on the probabilities. That of query `q` and key `k` of head `h`, counted through the batch, is dropped where
/// [`random_bits`](crate::random::random_bits) of `key` and `(h · queries + q) · keys + k` is below `p · 2³²`, and else
/// multiplied by `1 / (1 − p)`: it is the same in both passes and on every device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The probability of dropping, 0 to 1.
    pub p: f64,
    /// The key of the draws.
    pub key: u64,
}

impl Dropout {
    /// What is drawn below it is dropped.
    fn threshold(self) -> u64 {
        (self.p * 2f64.powi(32)) as u64
    }

    /// What the others are multiplied by.
    fn factor(self) -> f64 {
        if self.p == 1. { 0. } else { 1. / (1. - self.p) }
    }
}

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// What the products of queries and keys are multiplied by: any finite number.
    pub scale: f64,
    /// Which keys a query sees.
    pub mask: Mask,
    /// What becomes of the probabilities.
    pub dropout: Option<Dropout>,
}

/// How `(batch, heads, rows, width)` lies in memory, contiguously.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As written: all rows of a head, then the next head.
    HeadsFirst,
    /// `(batch, rows, heads, width)`: the heads of a row side by side, so that merging them is a view.
    RowsFirst,
}

/// What both passes read. Each is `(batch, heads, rows, width)`, strided as it likes, on a GPU but for the last dimension;
/// the key and the value have rows of their own number.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The queries.
    pub query: &'a In<'a>,
    /// The keys.
    pub key: &'a In<'a>,
    /// The values.
    pub value: &'a In<'a>,
    /// What is added to the scores, `(batch, heads, queries, keys)`: in the type of `lse`, where −∞ hides a key, or u8, where
    /// 0 hides it and all else adds nothing. It has no gradient here. No kernel of a device takes one.
    pub bias: Option<&'a In<'a>>,
}

/// What the backward pass reads besides.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    /// The forward pass's result, of the query's shape.
    pub out: &'a In<'a>,
    /// And its `lse`, `(batch, heads, queries)`, contiguous.
    pub lse: &'a In<'a>,
    /// The gradient of `out`, of its shape and dtype.
    pub grad: &'a In<'a>,
}

/// Where the backward pass writes the gradients, each in its input's dtype.
#[derive(Debug)]
pub enum GradientsOut<'a, 'b> {
    /// All to one buffer `(batch, rows, 3, heads, width)`: that of a projection to queries, keys and values at once.
    Packed(&'a mut Out<'b>),
    /// Each to its own, of its input's number of elements in this order.
    Each(Order, [&'a mut Out<'b>; 3]),
}

/// Writes `out`, whose dimensions are those of `order`, and `lse`, `(batch, heads, queries)` in f32, in f64 for f64.
///
/// # Errors
///
/// [`Error::Operand`](crate::Error::Operand) for shapes that do not fit together, a scale that is not finite and buffers on different devices, and
/// [`Error::Device`](crate::Error::Device).
pub fn forward(
    attention: Attention,
    inputs: Inputs<'_>,
    order: Order,
    out: &mut Out<'_>,
    lse: &mut Out<'_>,
) -> Result<Ran> {
    let sizes = Sizes::of(inputs)?;
    check(attention)?;
    let expected = sizes.out_dims(order, sizes.queries);
    if inputs.value.dims()[3] == sizes.width && out.dims() != expected {
        return Err(operand("out", format!("{expected:?}"), out.dims()));
    }
    fits_rows("lse", sizes, lse.dims())?;
    if let Some(why) = untaken(sizes, inputs) {
        return Ok(Ran::Composed(why));
    }
    if out.scalar_type() != inputs.query.scalar_type() {
        return Ok(Ran::Composed(Why::Dtype("out")));
    }
    if lse.scalar_type() != lse_type(inputs.query.scalar_type()) {
        return Ok(Ran::Composed(Why::Dtype("lse")));
    }
    match inputs.query.place() {
        Place::Host(_) => host::forward(Isa::best(), attention, sizes, inputs, order, out, lse),
        #[cfg(feature = "cuda")]
        Place::Device(_) => cuda::forward(attention, sizes, inputs, order, out, lse),
    }
}

/// Writes the gradients, and to `rows`, `(batch, heads, queries, 2)` in the dtype of `lse`, what nobody needs afterwards.
///
/// # Errors
///
/// As [`forward`].
pub fn backward(
    attention: Attention,
    inputs: Inputs<'_>,
    saved: Saved<'_>,
    mut grads: GradientsOut<'_, '_>,
    rows: &mut Out<'_>,
) -> Result<Ran> {
    let sizes = Sizes::of(inputs)?;
    check(attention)?;
    let wide = inputs.value.dims()[3];
    for (argument, x) in [("out", saved.out), ("the gradient of out", saved.grad)] {
        let expected = [sizes.batch, sizes.heads, sizes.queries, wide];
        if x.dims() != expected {
            return Err(operand(argument, format!("{expected:?}"), x.dims()));
        }
    }
    fits_rows("lse", sizes, saved.lse.dims())?;
    let expected = [sizes.batch, sizes.heads, sizes.queries, 2];
    if rows.dims() != expected {
        return Err(operand("the rows", format!("{expected:?}"), rows.dims()));
    }
    if let Some(why) = untaken(sizes, inputs) {
        return Ok(Ran::Composed(why));
    }
    if let GradientsOut::Packed(_) = grads
        && sizes.keys != sizes.queries
    {
        return Err(operand("the key", format!("{} rows, as the query", sizes.queries), &[sizes.keys]));
    }
    for (out, expected) in grads.outs(sizes) {
        if out.dims() != expected {
            return Err(operand("a gradient", format!("{expected:?}"), out.dims()));
        }
        if out.scalar_type() != inputs.query.scalar_type() {
            return Ok(Ran::Composed(Why::Dtype("a gradient")));
        }
    }
    for (argument, x) in [("out", saved.out), ("the gradient of out", saved.grad)] {
        if x.scalar_type() != inputs.query.scalar_type() {
            return Ok(Ran::Composed(Why::Dtype(argument)));
        }
        #[cfg(feature = "cuda")]
        if matches!(inputs.query.place(), Place::Device(_)) && !in_chunks(x) {
            return Ok(Ran::Composed(Why::Layout(argument)));
        }
    }
    let wanted = lse_type(inputs.query.scalar_type());
    if saved.lse.scalar_type() != wanted || rows.scalar_type() != wanted {
        return Ok(Ran::Composed(Why::Dtype("lse")));
    }
    if !saved.lse.is_contiguous() {
        return Ok(Ran::Composed(Why::Layout("lse")));
    }
    match inputs.query.place() {
        Place::Host(_) => host::backward(Isa::best(), attention, sizes, inputs, saved, grads),
        #[cfg(feature = "cuda")]
        Place::Device(_) => cuda::backward(attention, sizes, inputs, saved, grads, rows),
    }
}

impl<'b> GradientsOut<'_, 'b> {
    /// The buffers, and the dimensions that they are to have.
    fn outs(&mut self, sizes: Sizes) -> Vec<(&mut Out<'b>, Vec<usize>)> {
        let Sizes { batch, heads, queries, keys, width } = sizes;
        match self {
            Self::Packed(out) => vec![(&mut **out, vec![batch, queries, 3, heads, width])],
            Self::Each(order, outs) => outs
                .iter_mut()
                .zip([queries, keys, keys])
                .map(|(out, rows)| (&mut **out, sizes.out_dims(*order, rows).to_vec()))
                .collect(),
        }
    }
}
