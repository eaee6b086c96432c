//! What the machine is fast at, and where its memory is.

use backends::kernels::product::Engine;
use candle_core::{DType, Device, Tensor};

use crate::Result;

/// Whether products of matrices of `dtype` are faster than those of f32 on `device`. On a CPU that is so for bf16 where there is an
/// instruction for it (Intel's AMX, AMD's AVX-512 BF16); what has none is widened to f32 and rounded, which is right and takes longer.
pub fn has_fast_product(dtype: DType, device: &Device) -> bool {
    match (dtype, device) {
        (DType::BF16, Device::Cpu) => Engine::best() != Engine::Widened,
        (DType::F16, Device::Cpu) => false,
        (DType::F16 | DType::BF16, _) => true,
        _ => false,
    }
}

/// `tensor` on `device`, part of no graph where it had to be moved. To a CUDA device it goes by way of page-locked memory, so that the
/// host need not wait for the device.
///
/// # Errors
/// When the device has no memory left.
pub fn to_device(tensor: &Tensor, device: &Device) -> Result<Tensor> {
    Ok(backends::bridge::to_device(tensor, device)?)
}

/// Has the process keep memory that it frees for its next buffers, as a training run wants it: on Linux with glibc, whose heap
/// otherwise asks the system for the pages of large buffers anew in every step. It is a setting of the whole process.
pub fn keep_host_memory() {
    backends::keep_memory();
}

/// Makes the calling thread one of those that kernels of a CPU run on, where it is the main thread of a program that has not used
/// them yet, as a training run wants it: no kernel then waits for a thread to wake.
pub fn join_host_threads() {
    backends::join_pool();
}

/// Gives the system back what [`keep_host_memory`] has kept and nobody uses.
pub fn release_host_memory() {
    backends::release_memory();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f16_is_widened_on_every_cpu_and_bf16_where_nothing_multiplies_it() {
        assert!(!has_fast_product(DType::F16, &Device::Cpu));
        assert!(!has_fast_product(DType::F32, &Device::Cpu));
        let widened = Engine::available() == [Engine::Widened];
        assert!(!(widened && has_fast_product(DType::BF16, &Device::Cpu)));
    }
}
