//! Attention with its probabilities kept, by products and the softmax kernel: full and causal, in f32 and f64.
//!
//! Under a causal mask the products are of bands of queries with the keys that one of them sees. What a query does not see is
//! neither read nor written but as 0. What is not finite would still pass a factor of 0 in a
//! product, so that causal sums are taken of finite numbers, and marked afterwards where they see others.

use backends::buffer::Ran;
use backends::kernels::add::{Among, add_into};
use backends::kernels::attention::Order;
use backends::kernels::finite::{SeenBy, finite_of, spread_to};
use backends::kernels::head_rows::{gathered, packed};
use backends::kernels::softmax::{Form, Seen, gradient_of, value_of};
use candle_core::{D, Shape, Tensor};

use super::fused::are_packed;
use super::mask::OP;
use crate::graph::{Attribute, Backward, Op, Value, record};
use crate::ops::products::product::{product, product_transposed};
use crate::{Error, Result};

/// Queries of one band of a causal product, which multiplies them with no keys but those that one of them sees.
const BAND: usize = 256;

/// Attention of untracked flat stacks of matrices, `(batch, rows, width)`.
struct Stored {
    /// Times the scale.
    query: Tensor,
    key: Tensor,
    value: Tensor,
    /// Of each band `(batch, its queries, keys)`; keys beyond the last that the band sees have none.
    probabilities: Vec<Tensor>,
    causal: bool,
    scale: f64,
    /// Of the inputs.
    shapes: [Shape; 3],
}

/// Queries one after another, and how many keys they see, if all of them see as many as the last.
#[derive(Clone, Copy)]
struct Band {
    first: usize,
    queries: usize,
    keys: usize,
    causal: bool,
}

impl Band {
    /// All that there are of these queries and keys, of which there are some.
    fn all(query: &Tensor, key: &Tensor, causal: bool) -> Result<Vec<Self>> {
        let (queries, keys) = (query.dim(1)?, key.dim(1)?);
        let size = if causal { BAND } else { queries.max(1) };
        let bands = (0..queries).step_by(size).map(|first| {
            let end = queries.min(first + size);
            let seen = if causal { keys.min(end) } else { keys };
            Self { first, queries: end - first, keys: seen, causal }
        });
        Ok(bands.collect())
    }

    /// What a row of its scores sees.
    fn seen(self) -> Seen {
        match self.causal {
            true => Seen::Causal { rows: self.queries, first: self.first },
            false => Seen::Whole,
        }
    }

    /// The band's part of what belongs to queries.
    fn of_queries(self, x: &Tensor) -> Result<Tensor> {
        Ok(x.narrow(1, self.first, self.queries)?)
    }

    /// The part that it sees of what belongs to keys.
    fn of_keys(self, x: &Tensor) -> Result<Tensor> {
        Ok(x.narrow(1, 0, self.keys)?)
    }
}

/// The value, `dims`, of inputs. `None` where no kernel takes the call.
pub(super) fn value(
    inputs: [&Tensor; 3],
    dims: &[usize],
    causal: bool,
    scale: f64,
) -> Result<Option<Tensor>> {
    let shapes = inputs.map(|input| input.shape().clone());
    let [query, key, value] = inputs;
    let flat = [stacked(query, scale)?, stacked(key, 1.)?, stacked(value, 1.)?];
    let Some((saved, out)) = Stored::of(flat, shapes, causal, scale)? else { return Ok(None) };
    let by_rows = saved.by_rows();
    let out = out.reshape(dims)?;
    if !by_rows {
        return record(saved, &inputs, Value::fresh(out)).map(Some);
    }
    let out = match gathered(&out, 1., Order::RowsFirst)? {
        Some(out) => out,
        None => out.transpose(1, 2)?.contiguous()?,
    };
    let out = record(saved, &inputs, Value::fresh(out))?;
    Ok(Some(out.transpose(1, 2)?))
}

/// `(.., rows, width)` times a factor as an untracked `(batch, rows, width)`, contiguous.
fn stacked(x: &Tensor, factor: f64) -> Result<Tensor> {
    let (x, (rows, width)) = (x.detach(), (x.dim(D::Minus2)?, x.dim(D::Minus1)?));
    let batch: usize = x.dims()[..x.rank() - 2].iter().product();
    let stacked = match gathered(&x, factor, Order::HeadsFirst)? {
        Some(x) => x,
        None if factor == 1. => x.contiguous()?,
        None => x.affine(factor, 0.)?.contiguous()?,
    };
    Ok(stacked.reshape((batch, rows, width))?)
}

impl Stored {
    /// Whether the value is kept as `(batch, rows, heads, width)`: with the heads of a row side by side, whoever merges them looks at it as
    /// it lies.
    fn by_rows(&self) -> bool {
        self.shapes[0].rank() == 4
    }

    /// What is to be recorded, and its value, `(batch, T, out)`. `None` where no kernel takes the call.
    fn of(flat: [Tensor; 3], shapes: [Shape; 3], causal: bool, scale: f64) -> Result<Option<(Self, Tensor)>> {
        let [query, key, value] = flat;
        let Some(summed) = finite(&value, causal)? else { return Ok(None) };
        let (mut probabilities, mut sums) = (Vec::new(), Vec::new());
        for band in Band::all(&query, &key, causal)? {
            let scores = product_transposed(&band.of_queries(&query)?, &band.of_keys(&key)?)?;
            let Some(shares) = value_of(Form::Softmax, band.seen(), &scores, scores.dtype())? else {
                return Ok(None);
            };
            sums.push(product(&shares, &band.of_keys(&summed)?)?);
            probabilities.push(shares);
        }
        let out = joined(sums)?;
        if !marked(&out, &value, causal.then_some(SeenBy::Later))? {
            return Ok(None);
        }
        Ok(Some((Self { query, key, value, probabilities, causal, scale, shapes }, out)))
    }
}

/// Bands one after another.
fn joined(mut bands: Vec<Tensor>) -> Result<Tensor> {
    match bands.len() {
        1 => Ok(bands.remove(0)),
        _ => Ok(Tensor::cat(&bands, 1)?),
    }
}

/// `x` for sums in which factors of 0 hide some of it. `None` where no kernel takes the call.
fn finite(x: &Tensor, causal: bool) -> Result<Option<Tensor>> {
    if causal { Ok(finite_of(x)?) } else { Ok(Some(x.clone())) }
}

/// Marks in sums of what is finite in `x` those that see something that is not. Whether a kernel took the call.
fn marked(sums: &Tensor, x: &Tensor, seen_by: Option<SeenBy>) -> Result<bool> {
    let Some(by) = seen_by else { return Ok(true) };
    Ok(matches!(spread_to(sums, x, by)?, Ran::Kernel(_)))
}

/// Adds sums over one band's queries to those of all keys, of which they are the first. Bands come from the last, which may see all.
fn add_to_keys(total: &mut Option<Tensor>, keys: usize, of_band: Tensor) -> Result<()> {
    let (batch, seen, width) = of_band.dims3()?;
    let Some(total) = total else {
        let unseen = (seen < keys)
            .then(|| Tensor::zeros((batch, keys - seen, width), of_band.dtype(), of_band.device()))
            .transpose()?;
        *total = Some(match unseen {
            None => of_band,
            Some(unseen) => Tensor::cat(&[of_band, unseen], 1)?,
        });
        return Ok(());
    };
    match add_into(total, &of_band, &Among { strides: vec![keys * width, width, 1], offset: 0 })? {
        Ran::Kernel(_) => Ok(()),
        Ran::Composed(_) => Err(Error::refused(OP)),
    }
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
        let grad = if self.by_rows() { cx.grad().transpose(1, 2)? } else { cx.grad().clone() };
        let grad = stacked(&grad, 1.)?;
        // Where something odd is seen, the scores' gradient is NaN already.
        let [finite_query, finite_key, finite_grad] = [query, key, &grad].map(|x| finite(x, *causal));
        let (finite_query, finite_key) =
            (finite_query?.ok_or_else(refused)?, finite_key?.ok_or_else(refused)?);
        let finite_grad = finite_grad?.ok_or_else(refused)?;
        let (mut query_grads, mut key_grad, mut value_grad) = (Vec::new(), None, None);
        let bands = Band::all(query, key, *causal)?;
        for (band, shares) in bands.into_iter().zip(probabilities).rev() {
            let weights_grad = product_transposed(&band.of_queries(&grad)?, &band.of_keys(value)?)?;
            let scores =
                gradient_of(Form::Softmax, band.seen(), shares, &weights_grad, weights_grad.dtype())?;
            let scores = scores.ok_or_else(refused)?;
            query_grads.push(product(&scores, &band.of_keys(&finite_key)?)?);
            let of_keys = |weights: &Tensor, x: &Tensor| product(&weights.t()?, &band.of_queries(x)?);
            add_to_keys(&mut key_grad, key.dim(1)?, of_keys(&scores, &finite_query)?)?;
            add_to_keys(&mut value_grad, key.dim(1)?, of_keys(shares, &finite_grad)?)?;
        }
        query_grads.reverse();
        let (Some(key_grad), Some(value_grad)) = (key_grad, value_grad) else { return Err(refused()) };
        if !marked(&value_grad, &grad, causal.then_some(SeenBy::Earlier))? {
            return Err(refused());
        }
        // The queries were multiplied by the scale before the keys' gradient was made of them.
        let grads = [joined(query_grads)?, key_grad, value_grad].into_iter().zip(&self.shapes);
        let grads: Result<Vec<Tensor>> = grads.map(|(grad, shape)| Ok(grad.reshape(shape)?)).collect();
        let mut grads = grads?;
        if are_packed(cx, &self.shapes[0])
            && let [query, key, value] = grads.as_slice()
            && let Some(grad) = packed([query, key, value], [*scale, 1., 1.])?
        {
            cx.give_behind(0, grad)?;
            return Ok(vec![None, None, None]);
        }
        grads[0] = grads[0].affine(*scale, 0.)?;
        Ok(grads.into_iter().map(Some).collect())
    }
}
