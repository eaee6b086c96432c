//! The loader: a dataset, how its items are ordered and put together, and who loads them.

use std::sync::Arc;

use super::workers::{Batches, CollateFn, Plan};
use super::{Collate, Dataset, order};
use crate::{DataSource, Error, Result};

/// In which order an epoch goes through the items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// That of the dataset.
    #[default]
    InOrder,
    /// Another one in every epoch, which follows from the seed and the epoch and is the same on every machine.
    Shuffled {
        /// The seed.
        seed: u64,
    },
}

/// What becomes of the items at the end of an epoch that do not fill a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LastBatch {
    /// They are a smaller batch.
    #[default]
    Keep,
    /// They are left out of this epoch.
    Drop,
}

/// How a [`Loader`] loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderConfig {
    /// The items of a batch: 1 by default, at least 1.
    pub batch_size: usize,
    /// In which order an epoch goes through the items.
    pub order: Order,
    /// What becomes of the items that do not fill a batch.
    pub last_batch: LastBatch,
    /// Threads that load while the model trains. 0, the default, loads in the training thread. The batches are the same
    /// whatever the number.
    pub workers: usize,
    /// How many batches each worker has in hand or ready: 2 by default, at least 1.
    pub prefetch: usize,
}

impl Default for LoaderConfig {
    fn default() -> Self {
        Self {
            batch_size: 1,
            order: Order::default(),
            last_batch: LastBatch::default(),
            workers: 0,
            prefetch: 2,
        }
    }
}

/// Batches of a dataset, epoch after epoch.
///
/// Batches are made on the CPU, in the workers' threads; the trainer moves them to its device. A panic in the dataset's code
/// comes as [`Error::LoaderPanicked`], an item that cannot be had as [`Error::Item`]. A fit that resumes in the middle of an
/// epoch asks for no item of the batches before.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// use trainer::candle_core::{Device, Tensor};
/// use trainer::data::{Loader, LoaderConfig, Order};
/// use trainer::DataSource;
///
/// // Images of one colour, and their class.
/// let image = |class: u32| Tensor::full(class as f32, (1, 8, 8), &Device::Cpu);
/// let items = (0..10).map(|class| Ok((image(class)?, class))).collect::<trainer::Result<Vec<_>>>()?;
/// let config = LoaderConfig { batch_size: 4, order: Order::Shuffled { seed: 7 }, workers: 2, ..Default::default() };
/// let loader = Loader::new(items, config)?;
///
/// let batches: Vec<(Tensor, Tensor)> = loader.epoch(0)?.collect::<trainer::Result<_>>()?;
/// assert_eq!(batches.len(), 3);
/// assert_eq!(batches[0].0.dims(), [4, 1, 8, 8]);
/// assert_eq!(batches[2].1.dims(), [2]);
/// # Ok(())
/// # }
/// ```
pub struct Loader<D: Dataset, B> {
    dataset: Arc<D>,
    collate: CollateFn<D::Item, B>,
    config: LoaderConfig,
}

impl<D: Dataset> Loader<D, <D::Item as Collate>::Batch>
where
    D::Item: Collate,
{
    /// A loader that puts items together as [`Collate`] says.
    ///
    /// # Errors
    /// A setting out of its range.
    pub fn new(dataset: D, config: LoaderConfig) -> Result<Self> {
        Self::with_collate(dataset, config, Collate::collate)
    }
}

impl<D: Dataset, B> Loader<D, B> {
    /// A loader that puts items together by `collate`: to pad sequences, for instance.
    ///
    /// # Errors
    /// A setting out of its range.
    pub fn with_collate(
        dataset: D,
        config: LoaderConfig,
        collate: impl Fn(Vec<D::Item>) -> Result<B> + Send + Sync + 'static,
    ) -> Result<Self> {
        let LoaderConfig { batch_size, last_batch, workers, prefetch, .. } = config;
        let refused = |setting, got: String, expected| Err(Error::Setting { setting, got, expected });
        if batch_size == 0 {
            return refused("batch_size", "0".into(), "a batch has at least one item");
        }
        if workers > 0 && prefetch == 0 {
            return refused("prefetch", "0".into(), "each worker loads at least one batch ahead");
        }
        let items = dataset.len();
        if last_batch == LastBatch::Drop && items > 0 && items < batch_size {
            let got = format!("{batch_size} for a dataset of {items} items");
            return refused("batch_size", got, "no more than there are items, or `LastBatch::Keep`");
        }
        Ok(Self { dataset: Arc::new(dataset), collate: Arc::new(collate), config })
    }

    /// The batches of an epoch.
    fn batches(&self) -> usize {
        let items = self.dataset.len();
        match self.config.last_batch {
            LastBatch::Keep => items.div_ceil(self.config.batch_size),
            LastBatch::Drop => items / self.config.batch_size,
        }
    }

    fn order(&self, epoch: usize) -> Vec<usize> {
        match self.config.order {
            Order::InOrder => (0..self.dataset.len()).collect(),
            Order::Shuffled { seed } => order::shuffled(self.dataset.len(), seed, epoch),
        }
    }
}

impl<D: Dataset, B: Send + 'static> DataSource<B> for Loader<D, B> {
    fn epoch(&self, epoch: usize) -> Result<impl Iterator<Item = Result<B>> + '_> {
        self.epoch_from(epoch, 0)
    }

    fn epoch_from(&self, epoch: usize, first_batch: usize) -> Result<impl Iterator<Item = Result<B>> + '_> {
        let plan = Plan {
            dataset: self.dataset.clone(),
            collate: self.collate.clone(),
            order: self.order(epoch),
            batch_size: self.config.batch_size,
            batches: self.batches(),
        };
        Batches::start(plan, first_batch, self.config.workers, self.config.prefetch)
    }

    fn len(&self) -> Option<usize> {
        Some(self.batches())
    }
}

impl<D: Dataset, B: Send + 'static> DataSource<B> for &Loader<D, B> {
    fn epoch(&self, epoch: usize) -> Result<impl Iterator<Item = Result<B>> + '_> {
        (**self).epoch_from(epoch, 0)
    }

    fn epoch_from(&self, epoch: usize, first_batch: usize) -> Result<impl Iterator<Item = Result<B>> + '_> {
        (**self).epoch_from(epoch, first_batch)
    }

    fn len(&self) -> Option<usize> {
        Some(self.batches())
    }
}
