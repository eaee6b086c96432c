//! What a recorded graph consists of.

#![expect(unsafe_code, reason = "reading a graph's nodes")]

use crate::Result;
use crate::cuda::device;
use candle_core::cuda_backend::cudarc::driver::sys;

const OP: &str = "graph";

/// A node, as far as anybody here asks.
pub(in crate::cuda) enum Node {
    Kernel(sys::CUDA_KERNEL_NODE_PARAMS),
    /// A copy from host memory.
    FromHost,
    /// A copy to host memory.
    ToHost,
    /// A call of a function on the host.
    HostCall,
    /// Copies on the device, fills, allocations.
    Other,
}

impl Node {
    /// Of a graph that is alive.
    pub(in crate::cuda) fn of(node: sys::CUgraphNode) -> Result<Self> {
        let mut kind = sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_EMPTY;
        // SAFETY: the node belongs to a graph that is alive.
        unsafe { sys::cuGraphNodeGetType(node, &raw mut kind) }.result().map_err(device(OP))?;
        Ok(match kind {
            sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_KERNEL => Self::Kernel(kernel(node)?),
            sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_MEMCPY => match direction(node)? {
                (_, sys::CUmemorytype::CU_MEMORYTYPE_HOST) => Self::ToHost,
                (sys::CUmemorytype::CU_MEMORYTYPE_HOST, _) => Self::FromHost,
                _ => Self::Other,
            },
            sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_HOST => Self::HostCall,
            _ => Self::Other,
        })
    }
}

/// The nodes of a graph that is alive.
pub(in crate::cuda) fn all(graph: sys::CUgraph) -> Result<Vec<sys::CUgraphNode>> {
    let mut len = 0;
    // SAFETY: the graph is alive, and a null list asks for the number of nodes alone.
    unsafe { sys::cuGraphGetNodes(graph, std::ptr::null_mut(), &raw mut len) }
        .result()
        .map_err(device(OP))?;
    let mut nodes = vec![std::ptr::null_mut(); len];
    // SAFETY: the list has room for `len` nodes.
    unsafe { sys::cuGraphGetNodes(graph, nodes.as_mut_ptr(), &raw mut len) }.result().map_err(device(OP))?;
    Ok(nodes)
}

fn kernel(node: sys::CUgraphNode) -> Result<sys::CUDA_KERNEL_NODE_PARAMS> {
    let mut params = std::mem::MaybeUninit::zeroed();
    // SAFETY: the node is a kernel's, and the driver fills the whole struct.
    unsafe { sys::cuGraphKernelNodeGetParams_v2(node, params.as_mut_ptr()) }.result().map_err(device(OP))?;
    // SAFETY: filled by the call above, which succeeded.
    Ok(unsafe { params.assume_init() })
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
