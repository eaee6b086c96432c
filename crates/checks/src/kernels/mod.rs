//! Kernels on a GPU against their oracles on the CPU: casts, the fused step, the loss scale.

mod cast;
mod data;
mod promises;
mod scaler;
mod step;

use candle_core::Device;
use clap::ValueEnum;

use crate::report::Report;

pub(crate) use data::scaler;

/// How much is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Extent {
    /// Small sizes, for a run under a memory checker
    Quick,
    /// All but what needs tens of GB
    #[default]
    Full,
    /// A tensor of 2^31 + 8 elements, too
    Big,
}

/// Every check of a kernel.
pub fn run(device: &Device, report: &mut Report, extent: Extent) {
    cast::run(device, report);
    step::run(device, report, extent);
    promises::run(device, report, extent);
    scaler::run(device, report);
    if extent == Extent::Big {
        report.check("adamw on 2^31 + 8 elements", || promises::more_than_u32(device));
    }
}
