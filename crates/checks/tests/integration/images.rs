//! Convolutions, batch norms and pools of many shapes and layouts on a CPU; `checks ops` runs the same on a GPU.

use candle_core::Device;
use checks::ops::images;
use checks::report::Report;

#[test]
fn images_of_many_shapes_and_layouts() {
    let mut report = Report::default();
    images::run(&Device::Cpu, &mut report);
    assert!(report.finish());
}
