//! Counting steps whose outcomes come in late.

use super::{Outcome, Outcomes};
use crate::Result;
use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use std::collections::VecDeque;
use std::sync::Arc;

/// A step that was launched, and where its outcome will be.
#[derive(Clone, Debug)]
pub struct PendingStep {
    outcomes: Arc<Outcomes>,
    serial: u32,
    /// `StepState` in `multi_tensor.cuh`.
    state: Arc<CudaSlice<u64>>,
}

impl PendingStep {
    pub(crate) fn new(outcomes: &Arc<Outcomes>, serial: u32, state: &Arc<CudaSlice<u64>>) -> Self {
        Self { outcomes: Arc::clone(outcomes), serial, state: Arc::clone(state) }
    }

    /// Where the device's decision is, and under which serial number.
    pub(crate) fn decision(&self) -> (&CudaSlice<u64>, u32) {
        (&self.state, self.serial)
    }

    /// What became of it, or `None` while the device has not come to it. Does not wait.
    ///
    /// # Errors
    ///
    /// Where the driver has failed.
    pub fn poll(&self) -> Result<Option<Outcome>> {
        self.outcomes.poll(self.serial)
    }

    /// What became of it. **Waits for the device.** `None` where the step is more than [`Outcomes::LEN`] steps ago.
    ///
    /// # Errors
    ///
    /// Where the driver has failed.
    pub fn wait(&self) -> Result<Option<Outcome>> {
        self.outcomes.wait()?;
        self.poll()
    }
}

/// How many steps were applied and how many skipped.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    settled: Counts,
    /// Oldest first, and never more than a ring of [`Outcomes`] remembers.
    pending: VecDeque<PendingStep>,
}

/// The counts of a [`Tally`] at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Steps that changed the parameters.
    pub applied: u64,
    /// Steps that found an infinity or NaN.
    pub skipped: u64,
    /// Steps that the device has not come to.
    pub pending: u64,
}

impl Counts {
    fn add(&mut self, outcome: Outcome) {
        if outcome.found_inf {
            self.skipped += 1;
        } else {
            self.applied += 1;
        }
    }
}

impl Tally {
    /// Takes note of a step. Waits for the device only where it is [`Outcomes::LEN`] steps behind.
    ///
    /// # Errors
    ///
    /// Where the driver has failed.
    pub fn push(&mut self, step: PendingStep) -> Result<()> {
        self.pending.push_back(step);
        while let Some(oldest) = self.pending.front() {
            // One launch more would overwrite the oldest outcome.
            let full = self.pending.len() >= Outcomes::LEN as usize;
            let outcome = if full { oldest.wait()? } else { oldest.poll()? };
            let Some(outcome) = outcome else { break };
            self.settled.add(outcome);
            self.pending.pop_front();
        }
        Ok(())
    }

    /// The counts as far as the device has told. Does not wait.
    ///
    /// # Errors
    ///
    /// Where the driver has failed.
    pub fn counts(&self) -> Result<Counts> {
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
    pub fn wait_for_counts(&self) -> Result<Counts> {
        if let Some(last) = self.pending.back() {
            last.wait()?;
        }
        self.counts()
    }
}
