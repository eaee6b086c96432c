//! Checks of training that a GPU is held to, on a CPU.

use candle_core::Device;
use checks::report::Report;

#[test]
fn settings_do_what_they_say() {
    let mut report = Report::default();
    checks::training::settings(&Device::Cpu, &mut report);
    assert!(report.finish());
}
