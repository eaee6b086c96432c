//! Training on a GPU: against recorded losses, from many seeds, and what a user of the trainer relies on.

mod graph;
mod memory;
mod promises;
mod reference;
mod resume;
mod schedule;
mod settings;

use candle_core::Device;
use trainer::Accelerator;

use crate::report::{Outcome, Report};

pub use resume::FirstHalf;

/// Every check of training but those of [`memory()`].
pub fn run(device: &Device, report: &mut Report) {
    reference::run(report);
    schedule::run(device, report);
    promises::run(device, report);
    settings(device, report);
    graph(device, report);
    resume(Accelerator::Gpu, report);
}

/// Whether settings of the trainer do on a device what they say.
pub fn settings(device: &Device, report: &mut Report) {
    settings::run(device, report);
}

/// Whether fits whose passes are recorded are those whose are not.
pub fn graph(device: &Device, report: &mut Report) {
    graph::run(device, report);
}

/// Whether runs that go on in another process end as those that never stopped.
pub fn resume(accelerator: Accelerator, report: &mut Report) {
    resume::run(accelerator, report);
}

/// The first half of such a run.
///
/// # Errors
/// Those of the fit, and of writing its state.
pub fn first_half(half: &FirstHalf) -> Outcome<()> {
    resume::first_half(half)
}

/// Whether memory stays what it is over long fits.
pub fn memory(device: &Device, report: &mut Report) {
    memory::run(device, report);
}
