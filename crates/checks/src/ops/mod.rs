//! `autocast`'s ops on a device: which dtype each comes out in, and its values and gradients against f64 on the CPU.

mod dtypes;
pub mod images;
pub mod kernels;
mod numerics;
mod residual;
mod rows;

use candle_core::Device;

use crate::report::Report;

/// Every check of an op.
pub fn run(device: &Device, report: &mut Report) {
    dtypes::run(device, report);
    images::run(device, report);
    numerics::run(device, report);
    rows::run(device, report);
    report.check("a linear map added to f32 in a 16-bit region", || residual::check(device));
    report.check("which kernels ops come to", || kernels::check(device));
}
