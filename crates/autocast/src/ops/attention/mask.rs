//! The options of attention, and what hides keys from queries: masks, and dropout on the probabilities.

use candle_core::{DType, Device, Tensor};

use crate::dtypes::{check_constant, check_float};
use crate::ops::dropout::{self, DropoutSeed};
use crate::ops::shape::broadcast::sum_to;
use crate::plain::{choose, plus, zero_where};
use crate::region::retyped;
use crate::{Error, Result};

pub(super) const OP: &str = "scaled_dot_product_attention";

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

/// Dropout on the attention probabilities, as [`dropout`](crate::ops::dropout()) does it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionDropout {
    /// The probability of dropping.
    pub p: f64,
    /// Two calls with the same seed and shapes drop the same entries, on every device.
    pub seed: DropoutSeed,
}

/// What [`scaled_dot_product_attention`](crate::ops::scaled_dot_product_attention) takes besides its three tensors; the
/// default is none of it.
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

/// What of the scores counts, and what is added to it.
pub(super) struct Mask {
    /// u8, broadcasts to the scores: 0 where a key is hidden.
    visible: Tensor,
    /// Broadcasts to the scores; 0 where a key is hidden.
    pub(super) add: Option<Tensor>,
    /// The shape of the scores.
    dims: Vec<usize>,
}

impl Mask {
    /// `scores` where a key is visible, `fill` elsewhere: a choice, because no product or sum hides a NaN.
    pub(super) fn choose(&self, scores: &Tensor, fill: f32) -> Result<Tensor> {
        let fill = Tensor::full(fill, (), scores.device())?.to_dtype(scores.dtype())?;
        let chosen = choose(&self.visible, &scores.reshape(&*self.dims)?, &fill)?;
        Ok(chosen.reshape(scores.shape())?)
    }

    /// `scores`, untracked and of any shape with their elements, under the mask.
    pub(super) fn scores(&self, scores: &Tensor) -> Result<Tensor> {
        let scores = match &self.add {
            Some(add) => plus(&scores.reshape(&*self.dims)?, add)?.reshape(scores.shape())?,
            None => scores.clone(),
        };
        self.choose(&scores, f32::NEG_INFINITY)
    }

    /// The gradient of what is added, from that of the scores.
    pub(super) fn gradient(&self, scores: &Tensor, dims: &[usize]) -> Result<Tensor> {
        sum_to(&scores.reshape(&*self.dims)?, dims)
    }
}

impl AttentionMask {
    /// An error unless the mask is one for scores of shape `scores`.
    pub(super) fn check(&self, scores: &[usize]) -> Result<()> {
        let mask = match self {
            Self::None | Self::Causal => return Ok(()),
            Self::Boolean(mask) if mask.dtype() != DType::U8 => {
                return Err(Error::dtype(OP, "mask", mask.dtype(), &[DType::U8]));
            }
            Self::Boolean(mask) => {
                check_constant(OP, "mask", mask)?;
                mask
            }
            Self::Additive(mask) => {
                check_float(OP, "mask", mask)?;
                mask
            }
        };
        check_broadcast(mask, scores)
    }

    /// What of the mask gets a gradient.
    pub(super) fn trained(&self) -> Option<&Tensor> {
        match self {
            Self::Additive(mask) => Some(mask),
            _ => None,
        }
    }

    /// The mask, which was checked, for scores of shape `scores`, which are not empty, in `dtype`.
    pub(super) fn mask(&self, scores: &[usize], device: &Device, dtype: DType) -> Result<Option<Mask>> {
        let (visible, add) = match self {
            Self::None => return Ok(None),
            Self::Causal => {
                let [.., queries, keys] = scores else { return Ok(None) };
                let positions = |len: usize| Tensor::arange(0u32, len as u32, device);
                let (query, key) = (positions(*queries)?.unsqueeze(1)?, positions(*keys)?.unsqueeze(0)?);
                (key.broadcast_le(&query)?, None)
            }
            Self::Boolean(mask) => (mask.ne(0u8)?, None),
            Self::Additive(mask) => {
                let mask = retyped(&mask.detach(), dtype)?.contiguous()?;
                let visible = mask.ne(f64::NEG_INFINITY)?;
                let add = zero_where(&mask.eq(f64::NEG_INFINITY)?, &mask)?;
                (visible, Some(add))
            }
        };
        Ok(Some(Mask { visible, add, dims: scores.to_vec() }))
    }
}

/// Whether `mask` broadcasts to `scores` without growing it.
fn check_broadcast(mask: &Tensor, scores: &[usize]) -> Result<()> {
    let dims = mask.dims();
    let fits = dims.len() <= scores.len()
        && dims.iter().rev().zip(scores.iter().rev()).all(|(&m, &s)| m == s || m == 1)
        && !dims.is_empty();
    if fits {
        Ok(())
    } else {
        Err(Error::shape(OP, "mask", dims, format!("one that broadcasts to {scores:?}")))
    }
}

impl AttentionDropout {
    /// An error unless `p` is a probability.
    pub(super) fn checked(self) -> Result<Self> {
        match (0. ..=1.).contains(&self.p) {
            true => Ok(self),
            false => Err(Error::argument(OP, "dropout.p", self.p, "a probability, 0 to 1")),
        }
    }

    /// What the probabilities are multiplied by: 0 or `1 / (1 - p)`. `None` if nothing is dropped.
    pub(super) fn keep_mask(
        &self,
        dims: (usize, usize, usize),
        device: &Device,
        dtype: DType,
    ) -> Result<Option<Tensor>> {
        self.checked()?;
        if self.p == 0. {
            return Ok(None);
        }
        let kept = dropout::mask(dims.0 * dims.1 * dims.2, self.seed.draw(self.p));
        let scale = if self.p == 1. { 0. } else { 1. / (1. - self.p) };
        Ok(Some(Tensor::from_vec(kept, dims, device)?.to_dtype(dtype)?.affine(scale, 0.)?))
    }
}
