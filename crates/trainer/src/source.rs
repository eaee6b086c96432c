//! What may be trained on: data that can be gone through again, epoch by epoch, and iterators, which end once.

use crate::Result;

/// Data that can be gone through again: the batches of each epoch.
///
/// Implemented for references to vectors, slices and arrays of batches; a closure `|epoch: usize| iterator` is taken as well.
pub trait DataSource<B> {
    /// The batches of an epoch, which counts from 0.
    ///
    /// # Errors
    /// Whatever keeps the data from being read.
    fn epoch(&self, epoch: usize) -> Result<impl Iterator<Item = Result<B>> + '_>;

    /// The batches of an epoch from the one of index `first_batch`, for a fit that goes on in the middle of an epoch.
    ///
    /// # Errors
    /// As [`epoch`](Self::epoch).
    fn epoch_from(&self, epoch: usize, first_batch: usize) -> Result<impl Iterator<Item = Result<B>> + '_> {
        Ok(self.epoch(epoch)?.skip(first_batch))
    }

    /// The batches of an epoch, where that is known.
    fn len(&self) -> Option<usize> {
        None
    }

    /// Whether an epoch is known to have no batch.
    fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }
}
