//! Launching, and the driver's errors as this crate's.

#![expect(unsafe_code, reason = "launching a kernel")]

use super::graph;
use super::module::{Module, function};
use crate::{Error, Result};
use candle_core::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::sys::{CUdevice_attribute, CUfunction_attribute};
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaStream, LaunchArgs, LaunchConfig, PushKernelArg,
};
use std::fmt::Display;
use std::sync::Arc;

/// Threads per block: `BLOCK` in `multi_tensor.cuh`.
pub(crate) const BLOCK: u32 = 256;

/// The shape of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Launch {
    /// Blocks.
    pub(crate) grid: (u32, u32, u32),
    /// Threads of a block.
    pub(crate) block: u32,
    /// Shared memory of a block beside what the kernel declares.
    pub(crate) shared_bytes: u32,
}

/// A kernel on one device.
#[derive(Debug)]
pub(crate) struct Kernel {
    name: String,
    function: CudaFunction,
    stream: Arc<CudaStream>,
}

/// The `Error` for what the driver or candle reported.
pub(crate) fn device<E: Display>(op: &str) -> impl Fn(E) -> Error {
    move |error| Error::Device { op: op.to_string(), message: error.to_string() }
}

/// The device's compute capability, major and minor.
pub(crate) fn capability(gpu: &CudaDevice) -> Result<(i32, i32)> {
    gpu.cuda_stream().context().compute_capability().map_err(device("compute capability"))
}

/// Bytes of shared memory that a block may ask for.
pub(crate) fn shared_limit(gpu: &CudaDevice) -> Result<usize> {
    let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
    let bytes = gpu.cuda_stream().context().attribute(attribute).map_err(device("shared memory"))?;
    Ok(usize::try_from(bytes).unwrap_or_default())
}

impl Kernel {
    /// Loads the module where this is its first kernel.
    pub(crate) fn load(device_handle: &CudaDevice, module: Module, name: &str) -> Result<Self> {
        let stream = device_handle.cuda_stream();
        let function = function(stream.context(), module, name)?;
        Ok(Self { name: name.to_string(), function, stream })
    }

    /// Allows blocks this much shared memory beside what the kernel declares, which beyond 48 KiB has to be asked for.
    pub(crate) fn allow_shared(&self, bytes: i32) -> Result<()> {
        let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        self.function.set_attribute(attribute, bytes).map_err(device(&self.name))
    }

    /// Launches blocks of [`BLOCK`] threads of a kernel whose one parameter is a struct of these words. An empty grid is
    /// not launched.
    ///
    /// # Safety
    ///
    /// `args` must have the size and layout of the kernel's parameter, and every address in it must be valid for what
    /// the kernel does with it until the stream has run the kernel.
    pub(crate) unsafe fn launch<const N: usize>(&self, blocks: u64, args: &[u64; N]) -> Result<()> {
        let launch = self.in_blocks(blocks)?;
        // SAFETY: the caller's promise.
        unsafe { self.launch_as(launch, args) }
    }

    /// [`launch`](Self::launch) with a shape of its own.
    ///
    /// # Safety
    ///
    /// As for [`launch`](Self::launch), and the kernel must be made for that shape.
    pub(crate) unsafe fn launch_as<const N: usize>(&self, launch: Launch, args: &[u64; N]) -> Result<()> {
        let mut builder = self.stream.launch_builder(&self.function);
        builder.arg(args);
        // SAFETY: the caller's promise.
        unsafe { self.submit(builder, launch) }
    }

    /// [`launch_as`](Self::launch_as) of a kernel that draws: the word at `key` is the key of its draws, which a recorded graph is given
    /// anew at each launch.
    ///
    /// # Safety
    ///
    /// As for [`launch_as`](Self::launch_as), whatever the key is.
    pub(crate) unsafe fn launch_drawing<const N: usize>(
        &self,
        launch: Launch,
        args: &[u64; N],
        key: usize,
    ) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.launch_as(launch, args) }?;
        graph::note(self.function.cu_function(), args, key);
        Ok(())
    }

    /// Launches a kernel whose parameters are these words, one by one.
    ///
    /// # Safety
    ///
    /// As for [`launch`](Self::launch).
    pub(crate) unsafe fn launch_each(&self, blocks: u64, args: &[u64]) -> Result<()> {
        let mut builder = self.stream.launch_builder(&self.function);
        for arg in args {
            builder.arg(arg);
        }
        let launch = self.in_blocks(blocks)?;
        // SAFETY: the caller's promise.
        unsafe { self.submit(builder, launch) }
    }

    /// The shape of so many blocks of [`BLOCK`] threads.
    pub(crate) fn in_blocks(&self, blocks: u64) -> Result<Launch> {
        let blocks = u32::try_from(blocks).map_err(device(&self.name))?;
        Ok(Launch { grid: (blocks, 1, 1), block: BLOCK, shared_bytes: 0 })
    }

    unsafe fn submit(&self, mut builder: LaunchArgs<'_>, launch: Launch) -> Result<()> {
        let Launch { grid, block, shared_bytes } = launch;
        if grid.0 == 0 || grid.1 == 0 || grid.2 == 0 {
            return Ok(());
        }
        let config =
            LaunchConfig { grid_dim: grid, block_dim: (block, 1, 1), shared_mem_bytes: shared_bytes };
        // SAFETY: the caller's promise.
        unsafe { builder.launch(config) }.map_err(device(&self.name))?;
        Ok(())
    }
}
