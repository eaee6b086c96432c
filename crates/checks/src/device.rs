//! The GPU, and how much of a device's memory is in use.

use candle_core::Device;

use crate::report::Outcome;

/// The first GPU.
///
/// # Errors
/// Where there is none, or the program was built without the feature `cuda`.
#[cfg(feature = "cuda")]
pub fn gpu() -> Outcome<Device> {
    Device::new_cuda(0).map_err(|error| {
        let text = error.to_string();
        format!("no GPU can be used: {}", text.lines().next().unwrap_or("unknown")).into()
    })
}

/// The first GPU.
///
/// # Errors
/// Where there is none, or the program was built without the feature `cuda`.
#[cfg(not(feature = "cuda"))]
pub fn gpu() -> Outcome<Device> {
    Err("this needs a GPU, and the program was built without one: build it with --features cuda".into())
}

/// The bytes that are in use on the whole device, as its driver says.
///
/// # Errors
/// On a CPU, and where the driver cannot be asked.
#[cfg(feature = "cuda")]
pub fn memory_in_use(device: &Device) -> candle_core::Result<u64> {
    let stream = device.as_cuda_device()?.cuda_stream();
    let (free, total) = stream.context().mem_get_info().map_err(candle_core::Error::wrap)?;
    Ok((total - free) as u64)
}

/// The bytes that are in use on the whole device, as its driver says.
///
/// # Errors
/// On a CPU, and where the driver cannot be asked.
#[cfg(not(feature = "cuda"))]
pub fn memory_in_use(_: &Device) -> candle_core::Result<u64> {
    candle_core::bail!("a GPU's memory is known with the feature `cuda` alone")
}

/// What a device is called, with a GPU's compute capability.
///
/// # Errors
/// Where the driver cannot be asked.
#[cfg(feature = "cuda")]
pub fn name(device: &Device) -> Outcome<String> {
    let Device::Cuda(cuda) = device else { return Ok("CPU".into()) };
    let context = cuda.cuda_stream().context().clone();
    Ok(format!("{} (compute capability {:?})", context.name()?, context.compute_capability()?))
}

/// What a device is called, with a GPU's compute capability.
///
/// # Errors
/// Where the driver cannot be asked.
#[cfg(not(feature = "cuda"))]
pub fn name(_: &Device) -> Outcome<String> {
    Ok("CPU".into())
}
