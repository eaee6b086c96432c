//! Who loads: the calling thread, or worker threads that load ahead. The batches and their order are the same.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use crate::data::Dataset;
use crate::{Error, Result};

/// Puts items together.
pub(super) type CollateFn<T, B> = Arc<dyn Fn(Vec<T>) -> Result<B> + Send + Sync>;

/// The batches of an epoch, and how each is loaded.
pub(super) struct Plan<D: Dataset, B> {
    pub(super) dataset: Arc<D>,
    pub(super) collate: CollateFn<D::Item, B>,
    /// The indices of the items, in the order in which they come.
    pub(super) order: Vec<usize>,
    pub(super) batch_size: usize,
    pub(super) batches: usize,
}

impl<D: Dataset, B> Plan<D, B> {
    fn indices(&self, batch: usize) -> &[usize] {
        let first = batch * self.batch_size;
        &self.order[first..self.order.len().min(first + self.batch_size)]
    }

    /// Loads a batch. A panic of the user's code comes as an error.
    fn load(&self, batch: usize) -> Result<B> {
        let indices = self.indices(batch);
        let mut items = Vec::with_capacity(indices.len());
        for &index in indices {
            let item = caught(&[index], || self.dataset.get(index))?;
            items.push(item.map_err(|source| Error::Item { index, source: source.into() })?);
        }
        let batch = caught(indices, || (self.collate)(items))?;
        batch.map_err(|source| Error::Collate { indices: indices.to_vec(), source: source.into() })
    }
}

fn caught<T>(indices: &[usize], f: impl FnOnce() -> T) -> Result<T> {
    // What a panic leaves half done inside a dataset is the dataset's, which other threads see as well.
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        let message = payload.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| payload.downcast_ref::<&str>().copied());
        Error::LoaderPanicked {
            indices: indices.to_vec(),
            message: message.unwrap_or("no message").to_string(),
        }
    })
}

/// The batches of an epoch from one of them on.
pub(super) struct Batches<D: Dataset, B> {
    plan: Arc<Plan<D, B>>,
    /// The batch that comes next.
    next: usize,
    workers: Option<Workers<B>>,
}

/// Worker threads, which end when this is dropped.
struct Workers<B> {
    /// The first batch that the workers were not asked for yet.
    asked: usize,
    /// How many batches are asked for before the first of them is taken.
    ahead: usize,
    jobs: Sender<usize>,
    loaded: Receiver<(usize, Result<B>)>,
    /// Batches that were loaded before their turn.
    early: BTreeMap<usize, Result<B>>,
    ended: Arc<AtomicBool>,
}

impl<D: Dataset, B: Send + 'static> Batches<D, B> {
    /// Begins to load, `prefetch` batches ahead for each worker.
    pub(super) fn start(plan: Plan<D, B>, first: usize, workers: usize, prefetch: usize) -> Result<Self> {
        let plan = Arc::new(plan);
        let workers = workers.min(plan.batches.saturating_sub(first));
        let workers = match workers {
            0 => None,
            _ => Some(Workers::start(&plan, first, workers, workers * prefetch)?),
        };
        let mut batches = Self { plan, next: first, workers };
        batches.ask();
        Ok(batches)
    }

    fn ask(&mut self) {
        let Some(workers) = &mut self.workers else { return };
        let end = self.plan.batches.min(self.next + workers.ahead);
        while workers.asked < end && workers.jobs.send(workers.asked).is_ok() {
            workers.asked += 1;
        }
    }
}

impl<B: Send + 'static> Workers<B> {
    fn start<D: Dataset>(plan: &Arc<Plan<D, B>>, first: usize, count: usize, ahead: usize) -> Result<Self> {
        let (jobs, waiting) = mpsc::channel();
        let (done, loaded) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let ended = Arc::new(AtomicBool::new(false));
        for number in 0..count {
            let (plan, waiting, done, ended) = (plan.clone(), waiting.clone(), done.clone(), ended.clone());
            let work = move || {
                while !ended.load(Ordering::Relaxed) {
                    // One worker waits for a job, the others for the lock: whoever has it takes the next.
                    let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(batch) = job else { return };
                    if done.send((batch, plan.load(batch))).is_err() {
                        return;
                    }
                }
            };
            let spawned = std::thread::Builder::new().name(format!("loader-{number}")).spawn(work);
            spawned.map_err(|error| {
                Error::Other(format!("no thread for a worker of the loader: {error}").into())
            })?;
        }
        Ok(Self { asked: first, ahead, jobs, loaded, early: BTreeMap::new(), ended })
    }

    /// The batch `next`, once it is loaded.
    fn take(&mut self, next: usize) -> Option<Result<B>> {
        loop {
            if let Some(batch) = self.early.remove(&next) {
                return Some(batch);
            }
            let (batch, loaded) = self.loaded.recv().ok()?;
            self.early.insert(batch, loaded);
        }
    }
}

impl<B> Drop for Workers<B> {
    /// Has the workers end after what they are at, and does not wait for it: an item may take long.
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

impl<D: Dataset, B: Send + 'static> Iterator for Batches<D, B> {
    type Item = Result<B>;

    fn next(&mut self) -> Option<Result<B>> {
        if self.next >= self.plan.batches {
            return None;
        }
        let next = self.next;
        let batch = match &mut self.workers {
            None => self.plan.load(next),
            Some(workers) => workers.take(next).unwrap_or_else(|| {
                let indices = self.plan.indices(next).to_vec();
                Err(Error::LoaderPanicked { indices, message: "every worker thread has ended".to_string() })
            }),
        };
        self.next += 1;
        self.ask();
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.plan.batches.saturating_sub(self.next);
        (left, Some(left))
    }
}
