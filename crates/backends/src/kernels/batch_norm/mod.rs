//! batch_norm of `(outer, channels, inner)`: `y = (x − mean) / √(variance + eps) · weight + bias` with a mean and a
//! variance for each channel, over `outer` and `inner`, and where that is asked for `max(y + plus, 0)`, rounded once at its end.
//! Images that lie as they are counted have their pixels as `inner`; those whose channels lie last have an `inner` of 1.
//!
//! Elements are f16, bf16, f32 or f64; weight and bias are of that type or f32 (f64 beside f64). Arithmetic is f32 (f64 for f64, and on a CPU where f32 does not
//! hold a channel's factor or the squares of its deviations). Deviations are taken from a channel's first element, up to eight of them are added in f32 (on a CPU four,
//! on a GPU for planes 64), and those sums in f64, so that nothing cancels and the order is always the same. Statistics are f64. A channel with a NaN or an infinity has no finite value.
//!
//! The relu is that of PyTorch: 0 for what is not above 0, NaN stays NaN, and the gradient is 0 at 0. Where something was
//! added, the gradient looks at the value; else it computes again what was rounded.
//!
//! Contract: within `16 · 2⁻²⁴` of the largest term of each formula (`2⁻⁵³` for f64), and a rounding to the type, as long as the square of
//! no deviation overflows. The oracle is the composed op in f64, in the catalogue of `checks`.

mod blocks;
#[cfg(feature = "cuda")]
mod cuda;
mod host;
#[cfg(feature = "cuda")]
mod shares;
mod statistics;
#[cfg(feature = "candle")]
mod tensors;
#[cfg(test)]
#[cfg(feature = "candle")]
mod tests;

#[cfg(feature = "candle")]
pub use tensors::{Gradients, Normalized, Wanted, given_of, gradients_of, moved_of, value_of, value_with};

use crate::buffer::{In, Out};

const OP: &str = "batch_norm";

/// What is subtracted from a channel before it is scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Centre {
    /// Its mean; the variance is the mean square of what is left.
    Mean,
    /// Nothing; the variance is the mean square.
    Zero,
}

/// What becomes of the normalised values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Nothing more.
    Nothing,
    /// What is below 0 becomes 0.
    Relu,
}

/// How channels lie among the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// What is outside of channels.
    pub outer: usize,
    /// Channels.
    pub channels: usize,
    /// Elements of a channel that lie one after another.
    pub inner: usize,
}

impl Dims {
    /// All elements.
    pub fn count(self) -> usize {
        self.outer * self.channels * self.inner
    }
}

/// A batch norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// How channels lie.
    pub dims: Dims,
    /// What is subtracted.
    pub centre: Centre,
    /// What follows.
    pub then: Then,
    /// What is added to the variance.
    pub eps: f64,
}

/// What is read for the value: all contiguous.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, 'b> {
    /// The elements.
    pub x: &'a In<'b>,
    /// One for each channel.
    pub weight: Option<&'a In<'b>>,
    /// One for each channel.
    pub bias: Option<&'a In<'b>>,
    /// What is added to the normalised elements, of `x`'s type; for gradients, the value that came of that.
    pub beside: Option<&'a In<'b>>,
}

/// What is written for the gradients.
#[derive(Debug)]
pub struct GradientsOut<'a, 'b> {
    /// That of `x`, of its type.
    pub x: Option<&'a mut Out<'b>>,
    /// What the relu let pass, of `x`'s type: the gradient of what was added.
    pub passed: Option<&'a mut Out<'b>>,
    /// In f32 (f64 for f64).
    pub weight: Option<&'a mut Out<'b>>,
    /// In f32 (f64 for f64).
    pub bias: Option<&'a mut Out<'b>>,
}
