//! The driver's pool of device memory, from which candle allocates.
//!
//! By default it gives all that is free back to the system whenever the host waits for the device, so that the next step
//! has to map its memory again: some ten milliseconds a step of a small language model. Here it keeps what it has had.

#![expect(unsafe_code, reason = "attributes of a memory pool")]

use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};

use candle_core::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::result::{device as devices, mem_pool};
use candle_core::cuda_backend::cudarc::driver::sys;
use candle_core::cuda_backend::cudarc::driver::sys::CUmemPool_attribute as Attribute;
use candle_core::cuda_backend::cudarc::driver::sys::{CUgraphMem_attribute as GraphAttribute, CUmemoryPool};

use super::device;
use crate::Result;

const OP: &str = "memory pool";
const GRAPHS_HIGH: GraphAttribute = GraphAttribute::CU_GRAPH_MEM_ATTR_USED_MEM_HIGH;

/// Has the pool keep its memory, once for each GPU. A driver that refuses loses speed and nothing else.
pub(crate) fn keep(gpu: &CudaDevice) {
    static KEPT: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let ordinal = gpu.cuda_stream().context().ordinal();
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if !kept.contains(&ordinal) {
        kept.push(ordinal);
        let _ = set(gpu, Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX);
    }
}

/// Bytes that tensors have: what the pool has handed out, and what recorded graphs have, whose memory is their own.
///
/// # Errors
///
/// [`Error::Device`](crate::Error::Device) where the driver refuses.
pub fn memory_in_use(gpu: &CudaDevice) -> Result<u64> {
    read(gpu, Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT, GraphAttribute::CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT)
}

/// The most of these at a time since [`reset_peak_memory`]: the most of the pool and the most of recorded graphs, which
/// together are no less than was in use at any time.
///
/// # Errors
///
/// As [`memory_in_use`].
pub fn peak_memory(gpu: &CudaDevice) -> Result<u64> {
    read(gpu, Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, GRAPHS_HIGH)
}

/// Bytes of the pool and of graphs together.
fn read(gpu: &CudaDevice, of_pool: Attribute, of_graphs: GraphAttribute) -> Result<u64> {
    let (mut pooled, mut graphs) = (0u64, 0u64);
    let value = (&raw mut pooled).cast::<c_void>();
    // SAFETY: the pool is the device's, and its amounts are 64-bit numbers.
    unsafe { mem_pool::get_attribute(pool(gpu)?, of_pool, value) }.map_err(device(OP))?;
    let value = (&raw mut graphs).cast::<c_void>();
    // SAFETY: the device is one that the driver gave, and its amounts are 64-bit numbers.
    unsafe { sys::cuDeviceGetGraphMemAttribute(number(gpu), of_graphs, value) }
        .result()
        .map_err(device(OP))?;
    Ok(pooled + graphs)
}

/// Begins anew with what is in use now.
///
/// # Errors
///
/// As [`memory_in_use`].
pub fn reset_peak_memory(gpu: &CudaDevice) -> Result<()> {
    set(gpu, Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0)?;
    let mut to = 0u64;
    let value = (&raw mut to).cast::<c_void>();
    // SAFETY: the device is one that the driver gave, and this attribute is a 64-bit number.
    unsafe { sys::cuDeviceSetGraphMemAttribute(number(gpu), GRAPHS_HIGH, value) }.result().map_err(device(OP))
}

/// Gives back to the system what the pool keeps and nobody uses.
pub(super) fn trim(gpu: &CudaDevice) -> Result<()> {
    // SAFETY: the pool is the device's.
    unsafe { sys::cuMemPoolTrimTo(pool(gpu)?, 0) }.result().map_err(device(OP))
}

/// The same of what recorded graphs do not use any more.
pub(super) fn trim_graphs(gpu: &CudaDevice) -> Result<()> {
    // SAFETY: the device is one that the driver gave.
    unsafe { sys::cuDeviceGraphMemTrim(number(gpu)) }.result().map_err(device(OP))
}

fn number(gpu: &CudaDevice) -> sys::CUdevice {
    gpu.cuda_stream().context().cu_device()
}

fn pool(gpu: &CudaDevice) -> Result<CUmemoryPool> {
    // SAFETY: a context's device is one that the driver gave.
    unsafe { devices::get_default_mem_pool(number(gpu)) }.map_err(device(OP))
}

fn set(gpu: &CudaDevice, attribute: Attribute, mut to: u64) -> Result<()> {
    let value = (&raw mut to).cast::<c_void>();
    // SAFETY: the pool is the device's, and the attributes that this is called with are 64-bit numbers.
    unsafe { mem_pool::set_attribute(pool(gpu)?, attribute, value) }.map_err(device(OP))
}
