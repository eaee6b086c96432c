//! How parameters are optimized: by which optimizers, at which rates, and when each has its turn.

use std::fmt;
use std::sync::Arc;

use optim::{Optimizer, Schedule};

/// One optimizer, or several, each with its name, its schedule and its turns.
///
/// ```
/// # use optim::{AdamW, AdamWConfig};
/// # use trainer::Optimization;
/// # fn gan(generator: AdamW, critic: AdamW) -> Optimization {
/// // The critic at every step, the generator at every fifth.
/// Optimization::named("critic", critic)
///     .and(Optimization::named("generator", generator).when(|step| step % 5 == 4))
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Optimization {
    pub(crate) entries: Vec<Entry>,
}

pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) optimizer: Box<dyn Optimizer + Send + Sync>,
    pub(crate) schedule: Option<Schedule>,
    pub(crate) turns: Option<Turns>,
}

/// Whether it is an optimizer's turn at a step, which counts from 0.
pub(crate) type Turns = Arc<dyn Fn(usize) -> bool + Send + Sync>;

/// The name of an optimizer that was given none.
pub(crate) const UNNAMED: &str = "optimizer";

impl Optimization {
    /// An optimizer at its own, constant learning rate.
    pub fn new(optimizer: impl Optimizer + Send + Sync + 'static) -> Self {
        Self::named(UNNAMED, optimizer)
    }

    /// The same under a name: what a step is told it is for, and what its state is called in a checkpoint.
    pub fn named(name: impl Into<String>, optimizer: impl Optimizer + Send + Sync + 'static) -> Self {
        let entry = Entry { name: name.into(), optimizer: Box::new(optimizer), schedule: None, turns: None };
        Self { entries: vec![entry] }
    }

    /// Takes the learning rate of every step from `schedule`, which advances on applied steps only.
    pub fn with_schedule(mut self, schedule: Schedule) -> Self {
        self.entries.iter_mut().for_each(|entry| entry.schedule = Some(schedule));
        self
    }

    /// Takes a step only where `turn` says so of the step's number, which counts from 0. The forward pass for an optimizer
    /// whose turn it is not is not run.
    pub fn when(mut self, turn: impl Fn(usize) -> bool + Send + Sync + 'static) -> Self {
        let turn: Turns = Arc::new(turn);
        self.entries.iter_mut().for_each(|entry| entry.turns = Some(turn.clone()));
        self
    }

    /// Both: each batch is trained on for the optimizers of `self` first, and for those of `other` then.
    pub fn and(mut self, other: Self) -> Self {
        self.entries.extend(other.entries);
        self
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("name", &self.name)
            .field("schedule", &self.schedule)
            .finish_non_exhaustive()
    }
}
