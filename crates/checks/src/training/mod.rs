//! Training on a GPU: against recorded losses, from many seeds, and what a user of the trainer relies on.

mod memory;
mod promises;
mod reference;
mod schedule;

use candle_core::Device;

use crate::report::Report;

/// Every check of training but those of [`memory()`].
pub fn run(device: &Device, report: &mut Report) {
    reference::run(report);
    schedule::run(device, report);
    promises::run(device, report);
}

/// Whether memory stays what it is over long fits.
pub fn memory(device: &Device, report: &mut Report) {
    memory::run(device, report);
}
