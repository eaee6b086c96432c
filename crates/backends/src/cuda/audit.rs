//! Proof of what a stretch of code asks of the device: it is recorded as a CUDA graph, and the graph's nodes are counted.

#![expect(unsafe_code, reason = "reading a graph's nodes")]

use super::device;
use crate::Result;
use candle_core::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::sys;

const OP: &str = "capture";

/// What a captured stretch of code consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepNodes {
    /// Kernel launches.
    pub kernels: usize,
    /// Copies from host memory to the device.
    pub host_to_device: usize,
    /// Copies from the device to host memory.
    pub device_to_host: usize,
    /// Anything else: copies on the device, fills, allocations.
    pub other: usize,
}

/// Records what `body` launches on candle's stream, counts it, and then runs it once.
///
/// Whatever would make the host wait for the stream is an error while it is being recorded, so success proves that
/// `body` does not.
///
/// # Errors
///
/// What `body` returns, and what the driver says where `body` waits for the stream.
pub fn capture(on: &CudaDevice, body: impl FnOnce() -> Result<()>) -> Result<StepNodes> {
    let stream = on.cuda_stream();
    stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED).map_err(device(OP))?;
    let result = body();
    let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let graph = stream.end_capture(flags).map_err(device(OP));
    result?;
    let Some(graph) = graph? else { return Ok(StepNodes::default()) };
    let nodes = count(graph.cu_graph())?;
    graph.launch().map_err(device(OP))?;
    stream.synchronize().map_err(device(OP))?;
    Ok(nodes)
}

fn count(graph: sys::CUgraph) -> Result<StepNodes> {
    let mut len = 0;
    // SAFETY: the graph is alive, and a null list asks for the number of nodes alone.
    unsafe { sys::cuGraphGetNodes(graph, std::ptr::null_mut(), &raw mut len) }
        .result()
        .map_err(device(OP))?;
    let mut nodes = vec![std::ptr::null_mut(); len];
    // SAFETY: the list has room for `len` nodes.
    unsafe { sys::cuGraphGetNodes(graph, nodes.as_mut_ptr(), &raw mut len) }.result().map_err(device(OP))?;
    let mut out = StepNodes::default();
    for node in nodes {
        let mut kind = sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_EMPTY;
        // SAFETY: the node belongs to the graph, which is alive.
        unsafe { sys::cuGraphNodeGetType(node, &raw mut kind) }.result().map_err(device(OP))?;
        match kind {
            sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_KERNEL => out.kernels += 1,
            sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_MEMCPY => match direction(node)? {
                (_, sys::CUmemorytype::CU_MEMORYTYPE_HOST) => out.device_to_host += 1,
                (sys::CUmemorytype::CU_MEMORYTYPE_HOST, _) => out.host_to_device += 1,
                _ => out.other += 1,
            },
            _ => out.other += 1,
        }
    }
    Ok(out)
}

/// Where a copy reads, and where it writes.
fn direction(node: sys::CUgraphNode) -> Result<(sys::CUmemorytype, sys::CUmemorytype)> {
    let mut copy = std::mem::MaybeUninit::<sys::CUDA_MEMCPY3D>::zeroed();
    // SAFETY: the node is a copy, and the driver fills the whole struct.
    unsafe { sys::cuGraphMemcpyNodeGetParams(node, copy.as_mut_ptr()) }.result().map_err(device(OP))?;
    // SAFETY: filled by the call above, which succeeded.
    let copy = unsafe { copy.assume_init() };
    Ok((copy.srcMemoryType, copy.dstMemoryType))
}
