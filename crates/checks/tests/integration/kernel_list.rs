//! The list of kernels on a CPU in `docs/kernels.md` is what the ops come to.

use candle_core::Device;

#[test]
fn the_list_is_what_runs() {
    if let Err(error) = checks::ops::kernels::check(&Device::Cpu) {
        panic!("{error}");
    }
}
