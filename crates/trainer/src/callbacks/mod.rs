//! Callbacks that come with the trainer: stopping early, and monitors of rates, throughput, memory and precision.
//!
//! Each reads from the device only at the steps that its setting names: reading waits for the device.

mod early_stopping;
mod monitors;
mod precision;
mod print_summary;

pub use early_stopping::{EarlyStopping, EarlyStoppingConfig};
pub use monitors::{LearningRateMonitor, ThroughputMonitor};
pub use precision::{LayerPrecision, PrecisionMonitor, PrecisionMonitorConfig, PrecisionWarning};
pub use print_summary::PrintModelSummary;

use crate::{Error, Result};

/// How often a monitor looks, checked.
fn checked_every(every: usize) -> Result<usize> {
    match every {
        0 => Err(Error::Setting {
            setting: "every_n_steps",
            got: "0".into(),
            expected: "look at every step, 1, or at fewer",
        }),
        every => Ok(every),
    }
}

/// The error for a state that no such callback gave.
fn not_a_state(callback: &'static str, what: impl std::fmt::Display) -> Error {
    Error::CallbackState { callback, what: what.to_string() }
}
