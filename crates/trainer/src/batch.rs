//! What a batch is: anything made of tensors, so that the trainer can move it to the device and to the precision's
//! dtype.

use candle_core::Tensor;

use crate::Result;

/// A structure of tensors.
///
/// Implemented for tensors, tuples, vectors and options of batches. Implement it for a struct of your own by
/// mapping each field.
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

impl Batch for () {
    fn map_tensors(self, _: &mut dyn FnMut(Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(())
    }
}

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
