//! What became of a step: known at once on a CPU, later on a device, and counted either way.

use super::GradStats;
#[cfg(feature = "cuda")]
use super::launch::Launched;
use crate::Result;
use std::collections::VecDeque;

/// What was decided about one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Whether the step was skipped because a gradient was infinite or NaN.
    pub found_inf: bool,
    /// The norm of the unscaled gradients, all parameters together, where they were looked at.
    pub grad_norm: Option<f64>,
    /// How many steps were applied before this one.
    pub applied_before: u64,
}

/// What a look at gradients brought.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// The slots of the parameters whose gradients hold an infinity or NaN once unscaled.
    pub non_finite: Vec<usize>,
    /// Of all gradients together.
    pub total: GradStats,
}

impl Seen {
    /// Whether any gradient was not finite.
    pub fn found_inf(&self) -> bool {
        self.total.found_inf()
    }

    /// The norm of all gradients together.
    pub fn norm(&self) -> f64 {
        self.total.sum_squares.sqrt()
    }
}

/// A step, and where its outcome is or will be.
#[derive(Clone, Debug)]
pub struct Pending(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Known(Outcome, Seen),
    #[cfg(feature = "cuda")]
    Launched(Launched),
}

impl Pending {
    /// A step about which the host decided, after it saw what it did.
    pub fn known(outcome: Outcome, seen: Seen) -> Self {
        Self(Kind::Known(outcome, seen))
    }

    /// Whether the host decided. Else a device does, whether the host has heard of it or not.
    pub fn is_decided(&self) -> bool {
        matches!(self.0, Kind::Known(..))
    }

    #[cfg(feature = "cuda")]
    pub(crate) fn launched(step: Launched) -> Self {
        Self(Kind::Launched(step))
    }

    /// The launched step that this is, if it is one.
    #[cfg(feature = "cuda")]
    pub(crate) fn as_launched(&self) -> Option<&Launched> {
        match &self.0 {
            Kind::Launched(step) => Some(step),
            Kind::Known(..) => None,
        }
    }

    /// What became of it, or `None` while the device has not come to it. Does not wait.
    ///
    /// # Errors
    ///
    /// Where the driver has failed.
    pub fn poll(&self) -> Result<Option<Outcome>> {
        match &self.0 {
            Kind::Known(outcome, _) => Ok(Some(*outcome)),
            #[cfg(feature = "cuda")]
            Kind::Launched(step) => step.poll(),
        }
    }

    /// What became of it. **Waits for the device.** `None` where so many steps came after it that the device has forgotten
    /// it.
    ///
    /// # Errors
    ///
    /// Where the driver has failed.
    pub fn wait(&self) -> Result<Option<Outcome>> {
        #[cfg(feature = "cuda")]
        if let Kind::Launched(step) = &self.0 {
            step.wait()?;
        }
        self.poll()
    }

    /// What its gradients held: where they were looked at on a CPU, and on a device where a loss scale
    /// [counts](super::super::loss_scale::LossScale::counting) elements. **Waits for the device.**
    ///
    /// # Errors
    ///
    /// Where the driver has failed.
    pub fn wait_for_seen(&self) -> Result<Option<Seen>> {
        match &self.0 {
            Kind::Known(outcome, seen) => Ok(outcome.grad_norm.map(|_| seen.clone())),
            #[cfg(feature = "cuda")]
            Kind::Launched(step) => step.wait_for_seen(),
        }
    }
}

/// How many steps were applied, how many skipped, and of how many it is not known yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepCounts {
    /// Steps that changed the parameters.
    pub applied: u64,
    /// Steps that found an infinity or NaN, and changed nothing.
    pub skipped: u64,
    /// Steps that the device has not come to, as far as the host has heard. Never on a CPU.
    pub pending: u64,
}

impl StepCounts {
    fn add(&mut self, outcome: Outcome) {
        if outcome.found_inf {
            self.skipped += 1;
        } else {
            self.applied += 1;
        }
    }
}

/// Counts steps whose outcomes may come in late.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    settled: StepCounts,
    /// The last of those that are settled.
    last: Option<Outcome>,
    /// Oldest first, and never more than a device remembers.
    pending: VecDeque<Pending>,
}

/// How many steps a device remembers: a ring of 2 words each in host memory.
pub(crate) const REMEMBERED: usize = 256;

impl Tally {
    /// Takes note of a step. Waits for the device only where it is as many steps behind as it remembers.
    ///
    /// # Errors
    ///
    /// Where the driver has failed.
    pub fn push(&mut self, step: Pending) -> Result<()> {
        self.pending.push_back(step);
        while let Some(oldest) = self.pending.front() {
            // One launch more would overwrite the oldest outcome.
            let full = self.pending.len() >= REMEMBERED;
            let outcome = if full { oldest.wait()? } else { oldest.poll()? };
            let Some(outcome) = outcome else { break };
            self.settled.add(outcome);
            self.last = Some(outcome);
            self.pending.pop_front();
        }
        Ok(())
    }

    /// How many steps it has taken note of.
    pub fn len(&self) -> u64 {
        self.settled.applied + self.settled.skipped + self.pending.len() as u64
    }

    /// Whether it has taken note of none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many steps at most were applied: those that are not known to be skipped. Does not even ask the device.
    #[cfg(feature = "cuda")]
    pub(crate) fn at_most_applied(&self) -> u64 {
        self.settled.applied + self.pending.len() as u64
    }

    /// The counts as far as the device has told. Does not wait.
    ///
    /// # Errors
    ///
    /// Where the driver has failed.
    pub fn counts(&self) -> Result<StepCounts> {
        let mut counts = self.settled;
        for step in &self.pending {
            match step.poll()? {
                Some(outcome) => counts.add(outcome),
                None => counts.pending += 1,
            }
        }
        Ok(counts)
    }

    /// The counts once the device has come to every step. **Waits for the device.**
    ///
    /// # Errors
    ///
    /// Where the driver has failed.
    pub fn wait_for_counts(&self) -> Result<StepCounts> {
        if let Some(last) = self.pending.back() {
            last.wait()?;
        }
        self.counts()
    }

    /// The last outcome that the host has heard of, if it is one of those after the first `since` steps. Does not wait.
    ///
    /// # Errors
    ///
    /// Where the driver has failed.
    pub fn last_since(&self, since: u64) -> Result<Option<Outcome>> {
        let settled = self.len() - self.pending.len() as u64;
        let later = usize::try_from(since.saturating_sub(settled)).unwrap_or(usize::MAX);
        for step in self.pending.iter().skip(later).rev() {
            if let Some(outcome) = step.poll()? {
                return Ok(Some(outcome));
            }
        }
        Ok(self.last.filter(|_| settled > since))
    }
}
