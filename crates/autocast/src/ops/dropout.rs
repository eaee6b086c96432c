//! dropout, from a seed: the same seed gives the same mask on every device, because the mask is drawn on the host.

use backends::random;
use candle_core::Tensor;
use rayon::prelude::*;

use super::empty::of_no_elements;
use super::size::check_size;
use crate::graph::{Call, Keep, composed, wide};
use crate::prepare::{accumulation_dtype, float_inputs};
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
    /// The seed of a step's next draw inside [`random::with_seed`](crate::random::with_seed), mixed with this one; outside,
    /// this one.
    pub(crate) fn of_the_step(self) -> Self {
        match crate::random::next_key() {
            Some(key) => Self { seed: random::key(&[key, self.seed]), step: self.step },
            None => self,
        }
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
    let [x] = float_inputs("dropout", [x])?;
    if p == 0. {
        return Ok(x);
    }
    if let Some(empty) = of_no_elements("dropout", &[&x], x.dims(), x.dtype())? {
        return Ok(empty);
    }
    check_size("dropout", x.dims(), accumulation_dtype(x.dtype()))?;
    let kept = mask(x.elem_count(), p, seed.into());
    let kept = Tensor::from_vec(kept, x.shape(), x.device())?;
    let scale = if p == 1. { 0. } else { 1. / (1. - p) };
    // A choice and not a product, which would make NaN of a dropped infinity.
    let apply = move |x: &Tensor| -> Result<Tensor> { Ok(kept.where_cond(&(x * scale)?, &x.zeros_like()?)?) };
    let value = apply(&wide([&x])?[0].contiguous()?)?.to_dtype(x.dtype())?;
    composed(Call::from("dropout").with("p", p), [&x], value, Keep::Nothing, move |grad, _, [_]| {
        Ok([apply(grad)?])
    })
}

/// Draws that are worth another thread.
const CHUNK: usize = 64 * 1024;

/// 1 for each element that is kept.
pub(super) fn mask(count: usize, p: f64, seed: DropoutSeed) -> Vec<u8> {
    let key = random::key(&[seed.seed, seed.step]);
    let threshold = (p * 2f64.powi(32)) as u64;
    let kept = move |index: usize| u8::from(u64::from(random::random_bits(key, index as u64)) >= threshold);
    (0..count).into_par_iter().with_min_len(CHUNK).map(kept).collect()
}
