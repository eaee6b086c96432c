//! What a batch is: anything made of tensors, so that the trainer can move it to the device and to the precision's
//! dtype.

use candle_core::Tensor;

use crate::Result;

/// A structure of tensors.
///
/// Implemented for tensors, tuples, vectors and options of batches, and for numbers and strings, which hold no tensor.
/// Implement it for a struct of your own by mapping each field.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// use trainer::candle_core::{DType, Device, Tensor};
/// use trainer::{Batch, Result, Trainer};
///
/// struct Sentence {
///     tokens: Tensor,
///     weights: Tensor,
///     text: String,
/// }
///
/// impl Batch for Sentence {
///     fn map_tensors(self, f: &mut dyn FnMut(Tensor) -> Result<Tensor>) -> Result<Self> {
///         Ok(Self { tokens: f(self.tokens)?, weights: f(self.weights)?, text: self.text })
///     }
/// }
///
/// let trainer = Trainer::builder().precision("bf16-true").accelerator("cpu").build()?;
/// let tokens = Tensor::new(&[1u32, 2], &Device::Cpu)?;
/// let weights = Tensor::new(&[1f32, 0.5], &Device::Cpu)?;
/// let sentence = trainer.prepare(Sentence { tokens, weights, text: "two words".to_string() })?;
/// assert_eq!((sentence.tokens.dtype(), sentence.weights.dtype()), (DType::U32, DType::BF16));
/// # assert_eq!(sentence.text.len(), 9);
/// # Ok(())
/// # }
/// ```
pub trait Batch: Sized {
    /// Replaces every tensor `t` by `f(t)`.
    ///
    /// # Errors
    /// The first error of `f`.
    fn map_tensors(self, f: &mut dyn FnMut(Tensor) -> Result<Tensor>) -> Result<Self>;
}

impl Batch for Tensor {
    fn map_tensors(self, f: &mut dyn FnMut(Tensor) -> Result<Tensor>) -> Result<Self> {
        f(self)
    }
}

macro_rules! without_tensors {
    ($($type:ty)+) => {$(
        impl Batch for $type {
            fn map_tensors(self, _: &mut dyn FnMut(Tensor) -> Result<Tensor>) -> Result<Self> {
                Ok(self)
            }
        }
    )+};
}

without_tensors! { () bool u8 u32 u64 usize i32 i64 f32 f64 String }

impl<A: Batch, B: Batch> Batch for (A, B) {
    fn map_tensors(self, f: &mut dyn FnMut(Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok((self.0.map_tensors(f)?, self.1.map_tensors(f)?))
    }
}

impl<A: Batch, B: Batch, C: Batch> Batch for (A, B, C) {
    fn map_tensors(self, f: &mut dyn FnMut(Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok((self.0.map_tensors(f)?, self.1.map_tensors(f)?, self.2.map_tensors(f)?))
    }
}

impl<A: Batch, B: Batch, C: Batch, D: Batch> Batch for (A, B, C, D) {
    fn map_tensors(self, f: &mut dyn FnMut(Tensor) -> Result<Tensor>) -> Result<Self> {
        let (a, b, c, d) = self;
        Ok((a.map_tensors(f)?, b.map_tensors(f)?, c.map_tensors(f)?, d.map_tensors(f)?))
    }
}

impl<T: Batch> Batch for Vec<T> {
    fn map_tensors(self, f: &mut dyn FnMut(Tensor) -> Result<Tensor>) -> Result<Self> {
        self.into_iter().map(|batch| batch.map_tensors(f)).collect()
    }
}

impl<T: Batch> Batch for Option<T> {
    fn map_tensors(self, f: &mut dyn FnMut(Tensor) -> Result<Tensor>) -> Result<Self> {
        self.map(|batch| batch.map_tensors(f)).transpose()
    }
}
