//! What the CUDA kernels share on the host: loading, tensor addresses, tables that follow them, and news from the device.
//!
//! Everything runs on candle's stream of one `CudaDevice`, in the order of the calls, and nothing here waits for the
//! device unless its name says so. Candle gives every host thread a stream of its own, so one device is to be used from
//! one thread at a time, as for candle's own ops.

mod address;
mod audit;
pub(crate) mod blaslt;
#[cfg(feature = "cudnn")]
pub(crate) mod cudnn;
mod fastest;
mod graph;
mod kernel;
pub(crate) mod memory;
mod module;
mod outcomes;
mod pool;
pub(crate) mod rows;
pub(crate) mod staging;
mod table;

pub use audit::{StepNodes, capture};
pub use graph::{Recording, StepGraph, record};
pub use memory::DeviceSlice;
pub use pool::{memory_in_use, peak_memory, reset_peak_memory};

pub(crate) use address::{dtype_code, float_code, read_address, slice_address, write_address};
pub(crate) use kernel::{BLOCK, Kernel, Launch, capability, device, shared_limit};
pub(crate) use module::{Module, module};
pub(crate) use outcomes::Outcomes;
pub(crate) use table::Table;

pub use crate::kernels::cast::cuda::cast;
