//! What hides keys from queries in attention: masks, and dropout on the probabilities.

use candle_core::{D, DType, Device, Tensor};

use crate::ops::dropout::{self, DropoutSeed};
use crate::prepare::check_float;
use crate::{Error, Result};

const OP: &str = "scaled_dot_product_attention";

/// Which keys a query may see.
#[derive(Debug, Clone, Default)]
pub enum AttentionMask {
    /// All of them.
    #[default]
    None,
    /// Those up to the query's own position, counted from the first of each.
    Causal,
    /// Those where this u8 tensor is not zero.
    Boolean(Tensor),
    /// All, with this float tensor added to the scores; `-inf` hides a key. It gets a gradient.
    Additive(Tensor),
}

/// Dropout on the attention probabilities, as [`dropout`](super::super::dropout()) does it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionDropout {
    /// The probability of dropping.
    pub p: f64,
    /// Two calls with the same seed and shapes drop the same entries, on every device.
    pub seed: DropoutSeed,
}

/// A mask as a sum onto the scores.
pub(super) struct Bias {
    /// Broadcasts to the scores. No row is `-inf` throughout: such rows are 0 here, and 0 in `seen`.
    pub(super) add: Tensor,
    /// 0 for queries that see no key, else 1; absent if every query sees one.
    pub(super) seen: Option<Tensor>,
}

impl Bias {
    pub(super) fn is_tracked(&self) -> bool {
        self.add.track_op()
    }

    /// From an additive mask whose last two dimensions are `(T or 1, S or 1)`.
    fn new(add: &Tensor) -> Result<Self> {
        let highest = add.detach().max_keepdim(D::Minus1)?;
        let hidden = highest.eq(f64::NEG_INFINITY)?;
        let zeros = add.zeros_like()?;
        let add = hidden.broadcast_as(add.shape())?.where_cond(&zeros, add)?;
        let seen = hidden.where_cond(&highest.zeros_like()?, &highest.ones_like()?)?;
        Ok(Self { add, seen: Some(seen) })
    }
}

impl AttentionMask {
    /// The mask for scores of shape `scores`, in `dtype`.
    pub(super) fn bias(&self, scores: &[usize], device: &Device, dtype: DType) -> Result<Option<Bias>> {
        match self {
            Self::None => Ok(None),
            Self::Causal => {
                let [.., queries, keys] = scores else { return Ok(None) };
                let positions = |len: usize| Tensor::arange(0u32, len as u32, device);
                let (query, key) = (positions(*queries)?.unsqueeze(1)?, positions(*keys)?.unsqueeze(0)?);
                let later = key.broadcast_gt(&query)?;
                let add = Tensor::zeros((*queries, *keys), dtype, device)?;
                let add = later.where_cond(&hidden(&add)?, &add)?;
                Ok(Some(Bias { add, seen: None }))
            }
            Self::Boolean(mask) => {
                if mask.dtype() != DType::U8 {
                    return Err(Error::dtype(OP, mask.dtype(), &[DType::U8]));
                }
                check_broadcast(mask, scores)?;
                if mask.elem_count() == 0 {
                    return Ok(None);
                }
                let zeros = Tensor::zeros(mask.dims(), dtype, device)?;
                Bias::new(&mask.where_cond(&zeros, &hidden(&zeros)?)?).map(Some)
            }
            Self::Additive(mask) => {
                check_float(OP, mask)?;
                check_broadcast(mask, scores)?;
                if mask.elem_count() == 0 {
                    return Ok(None);
                }
                Bias::new(&mask.to_dtype(dtype)?).map(Some)
            }
        }
    }
}

/// `-inf` in the shape, dtype and place of `like`.
fn hidden(like: &Tensor) -> Result<Tensor> {
    let value = Tensor::full(f32::NEG_INFINITY, (), like.device())?.to_dtype(like.dtype())?;
    Ok(value.broadcast_as(like.shape())?)
}

/// Whether `mask` broadcasts to `scores` without growing it.
fn check_broadcast(mask: &Tensor, scores: &[usize]) -> Result<()> {
    let dims = mask.dims();
    let fits = dims.len() <= scores.len()
        && dims.iter().rev().zip(scores.iter().rev()).all(|(&m, &s)| m == s || m == 1)
        && !dims.is_empty();
    if fits { Ok(()) } else { Err(Error::shape(OP, format!("a mask that broadcasts to {scores:?}"), dims)) }
}

impl AttentionDropout {
    /// What the probabilities are multiplied by: 0 or `1 / (1 - p)`. `None` if nothing is dropped.
    pub(super) fn keep_mask(
        &self,
        dims: (usize, usize, usize),
        device: &Device,
        dtype: DType,
    ) -> Result<Option<Tensor>> {
        if !(0. ..=1.).contains(&self.p) {
            return Err(Error::argument(OP, "dropout.p", self.p, "a probability, 0 to 1"));
        }
        if self.p == 0. {
            return Ok(None);
        }
        let kept = dropout::mask(dims.0 * dims.1 * dims.2, self.p, self.seed);
        let scale = if self.p == 1. { 0. } else { 1. / (1. - self.p) };
        Ok(Some(Tensor::from_vec(kept, dims, device)?.to_dtype(dtype)?.affine(scale, 0.)?))
    }
}
