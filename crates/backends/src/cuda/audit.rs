//! Proof of what a stretch of code asks of the device: it is recorded as a CUDA graph, and the graph's nodes are counted.

use super::device;
use super::graph::{Node, all};
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
    let mut out = StepNodes::default();
    for node in all(graph)? {
        match Node::of(node)? {
            Node::Kernel(_) => out.kernels += 1,
            Node::FromHost => out.host_to_device += 1,
            Node::ToHost => out.device_to_host += 1,
            Node::HostCall | Node::Other => out.other += 1,
        }
    }
    Ok(out)
}
