//! dropout, from a seed: the same seed drops the same elements on every device, because each is drawn by its index.

use backends::bridge::Call;
use backends::kernels::dropout::{Draw, dropout as kernel};
use backends::random;
use candle_core::Tensor;
use rayon::prelude::*;

use crate::dtypes::accumulation_dtype;
use crate::graph::{Attribute, Backward, Op, Value, record};
use crate::ops::shape::empty::of_no_elements;
use crate::ops::shape::size::check_size;
use crate::region::{float_inputs, retyped, widen};
use crate::{Error, Result};

/// Which mask [`dropout`] draws.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropoutSeed {
    /// The seed of a sequence of masks.
    pub seed: u64,
    /// Which mask of the sequence.
    pub step: u64,
}

impl DropoutSeed {
    /// What is dropped with probability `p`.
    pub(crate) fn draw(self, p: f64) -> Draw {
        let key = self.key();
        crate::random::used(key);
        Draw { key, p }
    }

    /// Of the draws of this mask.
    pub(crate) fn key(self) -> u64 {
        random::key(&[self.seed, self.step])
    }

    /// Mixed with the key of a place in a step.
    pub(crate) fn beside(self, key: u64) -> Self {
        Self { seed: random::key(&[key, self.seed]), step: self.step }
    }

    /// The seed of a step's next draw inside [`random::with_seed`](crate::random::with_seed), mixed with this one; outside,
    /// this one.
    pub(crate) fn of_the_step(self) -> Self {
        crate::random::next_seed(self).unwrap_or(self)
    }
}

impl From<u64> for DropoutSeed {
    /// The first mask of the sequence of `seed`.
    fn from(seed: u64) -> Self {
        Self { seed, step: 0 }
    }
}

/// Sets each element to 0 with probability `p` and divides the rest by `1 − p`.
///
/// # Errors
///
/// A `p` outside `0..=1`, a dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// Hinton et al., 2012; `torch.nn.functional.dropout`.
pub fn dropout(x: &Tensor, p: f64, seed: impl Into<DropoutSeed>) -> Result<Tensor> {
    if !(0. ..=1.).contains(&p) {
        return Err(Error::argument("dropout", "p", p, "a probability, 0 to 1"));
    }
    let [x] = float_inputs("dropout", [("x", x)])?;
    if p == 0. {
        return Ok(x);
    }
    if let Some(empty) = of_no_elements("dropout", &[&x], x.dims(), x.dtype())? {
        return Ok(empty);
    }
    check_size("dropout", x.dims(), accumulation_dtype(x.dtype()))?;
    let draw = seed.into().draw(p);
    record(Dropout { draw }, &[&x], Value::fresh(dropped(&x.detach(), draw)?))
}

/// `x`, which is in no graph, with elements dropped.
fn dropped(x: &Tensor, draw: Draw) -> Result<Tensor> {
    if let Call::Ran(value) = kernel(x, draw)? {
        return Ok(value);
    }
    let kept = Tensor::from_vec(mask(x.elem_count(), draw), x.shape(), x.device())?;
    // A choice and not a product, which would make NaN of a dropped infinity.
    let scaled = (widen(x)?.contiguous()? * draw.scale())?;
    Ok(retyped(&kept.where_cond(&scaled, &scaled.zeros_like()?)?, x.dtype())?)
}

/// No mask is saved: the draw makes it again.
struct Dropout {
    draw: Draw,
}

impl Op for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        // The key is a number of 64 bits, and not one to count with.
        vec![("p", Attribute::Number(self.draw.p)), ("key", Attribute::Integer(self.draw.key as i64))]
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(dropped(cx.grad(), self.draw)?)])
    }
}

/// Draws that are worth another thread.
const CHUNK: usize = 64 * 1024;

/// 1 for each element that is kept.
pub(crate) fn mask(count: usize, draw: Draw) -> Vec<u8> {
    let kept = move |index: usize| u8::from(draw.keeps(index));
    (0..count).into_par_iter().with_min_len(CHUNK).map(kept).collect()
}
