//! The device of the CUDA tests.

use candle_core::Device;

/// A GPU, or `None` where this machine has none and is not required to.
pub(crate) fn gpu() -> Option<Device> {
    match Device::new_cuda(0) {
        Ok(device) => Some(device),
        Err(error) => {
            let required = std::env::var("REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|what| what == "cuda"), "cuda is required: {error}");
            println!("\nSKIPPED cuda: no GPU here");
            None
        }
    }
}
