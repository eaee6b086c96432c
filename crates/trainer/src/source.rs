//! What may be trained on: data that can be gone through again, epoch by epoch, and iterators, which end once.

use std::iter::Map;
use std::marker::PhantomData;

use crate::{Batch, Error, Result};

/// Data that can be gone through again: the batches of each epoch.
///
/// Implemented for references to vectors, slices and arrays of batches; a closure `|epoch: usize| iterator` is taken as well.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches};
/// use trainer::candle_core::Tensor;
/// use trainer::{DataSource, Result, Trainer};
///
/// /// The same batches in another order in every second epoch.
/// struct ThereAndBack(Vec<(Tensor, Tensor)>);
///
/// impl DataSource<(Tensor, Tensor)> for ThereAndBack {
///     fn epoch(&self, epoch: usize) -> Result<impl Iterator<Item = Result<(Tensor, Tensor)>> + '_> {
///         let last = self.0.len() - 1;
///         let at = move |at| if epoch % 2 == 0 { at } else { last - at };
///         Ok((0..self.0.len()).map(move |index| Ok(self.0[at(index)].clone())))
///     }
///
///     fn len(&self) -> Option<usize> {
///         Some(self.0.len())
///     }
/// }
///
/// let trainer = Trainer::builder().accelerator("cpu").max_epochs(2).build()?;
/// assert_eq!(trainer.fit(&Line, ThereAndBack(batches(3)?))?.losses.len(), 6);
/// # Ok(())
/// # }
/// ```
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

macro_rules! of_batches {
    ($($type:ty, [$($generics:tt)*];)+) => {$(
        impl<B: Batch + Clone, $($generics)*> DataSource<B> for $type {
            fn epoch(&self, _: usize) -> Result<impl Iterator<Item = Result<B>> + '_> {
                Ok(self.iter().cloned().map(Ok))
            }

            fn len(&self) -> Option<usize> {
                Some(<[B]>::len(&self[..]))
            }
        }
    )+};
}

of_batches! { &[B], []; &Vec<B>, []; &[B; N], [const N: usize]; }

/// A batch, or the error that came in its place.
pub trait IntoBatch<B> {
    /// The batch.
    ///
    /// # Errors
    /// The one that came in its place.
    fn into_batch(self) -> Result<B>;
}

impl<B: Batch> IntoBatch<B> for B {
    fn into_batch(self) -> Result<B> {
        Ok(self)
    }
}

impl<B, E: Into<Error>> IntoBatch<B> for std::result::Result<B, E> {
    fn into_batch(self) -> Result<B> {
        self.map_err(Into::into)
    }
}

type Batches<'a, B> = Box<dyn Iterator<Item = Result<B>> + 'a>;

/// Data as the loop takes them, whatever they came as.
pub trait Data<B> {
    /// The batches of an epoch from the one of index `first_batch` on; `None` where the data are used up.
    ///
    /// # Errors
    /// Whatever keeps the data from being read.
    fn open(&mut self, epoch: usize, first_batch: usize) -> Result<Option<Batches<'_, B>>>;

    /// The batches of an epoch, where that is known.
    fn batches(&self) -> Option<usize>;

    /// Whether there is another epoch after the first.
    fn repeats(&self) -> bool;
}

/// What [`Trainer::fit`](crate::Trainer::fit) and its like take: a [`DataSource`], a closure from an epoch to an iterator, or an
/// iterator, each over batches or results of batches.
///
/// An iterator is gone through once, and a fit that resumes goes on with its first batch. `Kind` tells the three apart and is
/// inferred.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches};
/// use trainer::{Error, Trainer};
///
/// let data = batches(4)?;
/// let trainer = |epochs| Trainer::builder().accelerator("cpu").max_epochs(epochs).build();
/// // Data that can be gone through again and again.
/// assert_eq!(trainer(2)?.fit(&Line, &data)?.losses.len(), 8);
/// // The data of each epoch, here fewer and fewer.
/// assert_eq!(trainer(2)?.fit(&Line, |epoch: usize| data[epoch..].iter().cloned())?.losses.len(), 7);
/// // An iterator, which ends once, of results as well.
/// let read = data.iter().cloned().map(Ok::<_, Error>);
/// assert_eq!(trainer(2)?.fit(&Line, read)?.losses.len(), 4);
/// # Ok(())
/// # }
/// ```
pub trait IntoData<B, Kind> {
    /// The data.
    fn into_data<'a>(self) -> Box<dyn Data<B> + 'a>
    where
        Self: 'a,
        B: 'a;
}

/// The kind of a [`DataSource`].
#[derive(Debug)]
pub enum FromSource {}

/// The kind of a closure from an epoch to an iterator.
#[derive(Debug)]
pub enum FromClosure {}

/// The kind of an iterator.
#[derive(Debug)]
pub enum FromIter {}

struct Source<S>(S);

impl<B, S: DataSource<B>> Data<B> for Source<S> {
    fn open(&mut self, epoch: usize, first_batch: usize) -> Result<Option<Batches<'_, B>>> {
        Ok(Some(Box::new(self.0.epoch_from(epoch, first_batch)?)))
    }

    fn batches(&self) -> Option<usize> {
        self.0.len()
    }

    fn repeats(&self) -> bool {
        true
    }
}

impl<B, S: DataSource<B>> IntoData<B, FromSource> for S {
    fn into_data<'a>(self) -> Box<dyn Data<B> + 'a>
    where
        Self: 'a,
        B: 'a,
    {
        Box::new(Source(self))
    }
}

/// What a closure gives for an epoch, under a name.
trait Epochs<B> {
    type Batches: Iterator<Item = Result<B>>;

    fn batches_of(&self, epoch: usize) -> Self::Batches;
}

impl<B, F, I> Epochs<B> for F
where
    F: Fn(usize) -> I,
    I: IntoIterator,
    I::Item: IntoBatch<B>,
{
    type Batches = Map<I::IntoIter, fn(I::Item) -> Result<B>>;

    fn batches_of(&self, epoch: usize) -> Self::Batches {
        self(epoch).into_iter().map(IntoBatch::into_batch)
    }
}

struct Closure<F, B>(F, PhantomData<fn() -> B>);

impl<B, F: Epochs<B>> Data<B> for Closure<F, B> {
    fn open(&mut self, epoch: usize, first_batch: usize) -> Result<Option<Batches<'_, B>>> {
        Ok(Some(Box::new(self.0.batches_of(epoch).skip(first_batch))))
    }

    fn batches(&self) -> Option<usize> {
        None
    }

    fn repeats(&self) -> bool {
        true
    }
}

impl<B, F, I> IntoData<B, FromClosure> for F
where
    F: Fn(usize) -> I,
    I: IntoIterator,
    I::Item: IntoBatch<B>,
{
    fn into_data<'a>(self) -> Box<dyn Data<B> + 'a>
    where
        Self: 'a,
        B: 'a,
    {
        Box::new(Closure(self, PhantomData))
    }
}

struct Once<I, B>(Option<I>, PhantomData<fn() -> B>);

impl<B, I> Data<B> for Once<I, B>
where
    I: IntoIterator,
    I::Item: IntoBatch<B>,
{
    fn open(&mut self, _: usize, _: usize) -> Result<Option<Batches<'_, B>>> {
        let batches = self.0.take().map(|batches| batches.into_iter().map(IntoBatch::into_batch));
        Ok(batches.map(|batches| Box::new(batches) as Batches<'_, B>))
    }

    fn batches(&self) -> Option<usize> {
        None
    }

    fn repeats(&self) -> bool {
        false
    }
}

impl<B, I> IntoData<B, FromIter> for I
where
    I: IntoIterator,
    I::Item: IntoBatch<B>,
{
    fn into_data<'a>(self) -> Box<dyn Data<B> + 'a>
    where
        Self: 'a,
        B: 'a,
    {
        Box::new(Once(Some(self), PhantomData))
    }
}
