//! What to look at when a run goes bad: who overflowed, how much underflows, and where the scale has been.

use crate::config::check_setting;
use crate::{Result, ScalerConfig};
use backends::kernels::step::{GradStats, Seen};
use std::collections::VecDeque;
use std::fmt;

/// How much to remember and when to warn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiagnosticsConfig {
    /// How many updates are remembered, at least 1.
    pub history: u32,
    /// A warning comes after this many updates in a row that skipped, or that left the scale at its floor; at least 1.
    pub patience: u32,
}

impl Default for DiagnosticsConfig {
    /// The last 1000 updates; a warning after 10 in a row that skipped, or that left the scale at its floor.
    fn default() -> Self {
        Self { history: 1000, patience: 10 }
    }
}

/// What the gradients of the last step lost to f16's range, as fractions of their entries.
///
/// # Units
///
/// Counted on the gradients as they are stored: with the scale, unless nothing is scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Underflow {
    /// Entries that are zero: underflowed, or never touched.
    pub zero: f64,
    /// Nonzero entries below f16's smallest normal number, 2^-14, which have lost bits in f16.
    pub subnormal: f64,
}

/// One update of the scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HistoryEntry {
    /// The scale of the step.
    pub scale: f32,
    /// Whether an optimizer found an infinity or NaN, and skipped.
    pub found_inf: bool,
}

/// A run that does not look well.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// Every step of late was skipped.
    SkippingInARow {
        /// How many.
        steps: u32,
    },
    /// The scale cannot back off any further.
    AtFloor {
        /// For how many updates.
        steps: u32,
        /// Where the floor is.
        scale: f32,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::SkippingInARow { steps } => write!(
                f,
                "the last {steps} steps were all skipped: look at the overflowed parameters, lower the learning rate, \
                 or use bf16"
            ),
            Warning::AtFloor { steps, scale } => write!(
                f,
                "the loss scale has sat at its floor of {scale} for {steps} steps and cannot back off: lower the floor, \
                 look at the overflowed parameters, or use bf16"
            ),
        }
    }
}

/// What a scaler remembers when it was asked to.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    config: DiagnosticsConfig,
    overflowed: Vec<String>,
    /// What this step has counted so far, over all optimizers.
    counting: GradStats,
    underflow: Underflow,
    history: VecDeque<HistoryEntry>,
    skipped_in_a_row: u32,
    at_floor_in_a_row: u32,
}

impl Diagnostics {
    pub(crate) fn new(config: DiagnosticsConfig) -> Result<Self> {
        for (argument, count) in [("history", config.history), ("patience", config.patience)] {
            check_setting("DiagnosticsConfig", argument, "1 or more", f64::from(count), count > 0)?;
        }
        Ok(Self { config, ..Self::default() })
    }

    /// The parameters whose gradients were infinite or NaN at the last skipped step, in the optimizer's order.
    pub fn overflowed(&self) -> &[String] {
        &self.overflowed
    }

    /// What the gradients lost at the last update.
    pub fn underflow(&self) -> Underflow {
        self.underflow
    }

    /// The last updates, oldest first.
    pub fn history(&self) -> impl ExactSizeIterator<Item = &HistoryEntry> {
        self.history.iter()
    }

    /// What is wrong, if anything is.
    pub fn warning(&self) -> Option<Warning> {
        let patience = self.config.patience;
        if self.at_floor_in_a_row >= patience {
            let scale = self.history.back().map_or(0.0, |entry| entry.scale);
            Some(Warning::AtFloor { steps: self.at_floor_in_a_row, scale })
        } else if self.skipped_in_a_row >= patience {
            Some(Warning::SkippingInARow { steps: self.skipped_in_a_row })
        } else {
            None
        }
    }

    /// Takes note of one optimizer's gradients, and of the names of those that overflowed.
    pub(crate) fn record(&mut self, names: Vec<String>, seen: &Seen) {
        // The first overflow of a step replaces those of an earlier one; other optimizers of the step add theirs.
        if !names.is_empty() && !self.counting.found_inf() {
            self.overflowed.clear();
        }
        self.overflowed.extend(names);
        self.counting = self.counting.merge(seen.total);
    }

    /// Takes note of an update of a scale that was this before.
    pub(crate) fn update(&mut self, scale: f32, config: &ScalerConfig) {
        let counted = std::mem::take(&mut self.counting);
        let part = |count: u64| count as f64 / counted.len.max(1) as f64;
        self.underflow = Underflow { zero: part(counted.zeros), subnormal: part(counted.subnormal) };
        let entry = HistoryEntry { scale, found_inf: counted.found_inf() };
        let at_floor = config.min_scale.is_some_and(|floor| entry.scale <= floor as f32);
        self.skipped_in_a_row = if entry.found_inf { self.skipped_in_a_row.saturating_add(1) } else { 0 };
        self.at_floor_in_a_row = if at_floor { self.at_floor_in_a_row.saturating_add(1) } else { 0 };
        if self.history.len() >= self.config.history as usize {
            self.history.pop_front();
        }
        self.history.push_back(entry);
    }
}
