//! Batches out of a dataset: which items in which order (`order`), put together (`collate`), by whom (`workers`).
//!
//! Moving a batch to the trainer's device is the trainer's.

mod collate;
mod loader;
mod order;
#[cfg(test)]
mod tests;
mod workers;

pub use collate::{Collate, stack};
pub use loader::{LastBatch, Loader, LoaderConfig, Order};

use crate::Result;

/// A number of items, each of which can be had by its index.
///
/// Implemented for vectors, whose items are cloned.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// use trainer::candle_core::{Device, Tensor};
/// use trainer::data::{Dataset, Loader, LoaderConfig};
///
/// /// Numbers and their squares, made when they are asked for.
/// struct Squares(usize);
///
/// impl Dataset for Squares {
///     type Item = (Tensor, f32);
///
///     fn len(&self) -> usize {
///         self.0
///     }
///
///     fn get(&self, index: usize) -> trainer::Result<Self::Item> {
///         let x = index as f32;
///         Ok((Tensor::new(&[x], &Device::Cpu)?, x * x))
///     }
/// }
///
/// let loader = Loader::new(Squares(10), LoaderConfig { batch_size: 4, ..Default::default() })?;
/// # let _ = loader;
/// # Ok(())
/// # }
/// ```
pub trait Dataset: Send + Sync + 'static {
    /// What one item is: a tensor, or a tuple of tensors and numbers. A tensor has no dimension for the batch.
    type Item: Send + 'static;

    /// How many items there are.
    fn len(&self) -> usize;

    /// The item at `index`, below [`len`](Self::len). Called by several threads at once.
    ///
    /// # Errors
    /// Whatever keeps the item from being had. The loader says which item it was.
    fn get(&self, index: usize) -> Result<Self::Item>;

    /// Whether there is no item at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Clone + Send + Sync + 'static> Dataset for Vec<T> {
    type Item = T;

    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn get(&self, index: usize) -> Result<T> {
        let item = self.as_slice().get(index).cloned();
        item.ok_or_else(|| crate::Error::Other(format!("there are {} items", self.as_slice().len()).into()))
    }
}
