//! A stretch of launches as a CUDA graph: recorded once, and from then on launched as one.
//!
//! What the stretch allocates belongs to the graph: memory that it does not free itself is allocated anew, at the same
//! address, whenever the graph is launched. So whoever holds a tensor that came of the recording has what the last launch
//! wrote, and frees its memory once, as that of any other: before the graph is destroyed or after it.
//!
//! A graph holds addresses and arguments. What changes from launch to launch has to lie behind an address, but for the keys of
//! draws, which [`StepGraph::launch`] takes.

#![expect(unsafe_code, reason = "new arguments for a graph's kernels")]

mod drawn;
mod nodes;

use super::{device, pool};
use crate::Result;
use candle_core::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::{CudaGraph, CudaStream, sys};
use std::ffi::c_void;
use std::fmt::Display;
use std::sync::Arc;

pub(super) use drawn::note;
pub(super) use nodes::{Node, all};

const OP: &str = "graph";
const FLAGS: sys::CUgraphInstantiate_flags =
    sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;

/// What came of a recording.
pub enum Recording<T> {
    /// A graph that has been launched once, and what the recorded code gave.
    Ready(StepGraph, T),
    /// Why there is none.
    Refused(String),
}

/// A recorded graph.
pub struct StepGraph {
    graph: CudaGraph,
    gpu: CudaDevice,
    draws: Vec<Draws>,
    keys: Vec<u64>,
}

/// A kernel that draws.
struct Draws {
    node: sys::CUgraphNode,
    params: sys::CUDA_KERNEL_NODE_PARAMS,
    words: Vec<u64>,
    /// The word that is the key.
    at: usize,
    /// Its place among the graph's keys.
    key: usize,
}

/// Records what `body` launches on the device's stream, and launches it once.
///
/// Beforehand the same code has to have run in a [rehearsal](crate::bridge::rehearse), so that what it loads and uploads is there.
/// Nothing that was allocated before may be freed in `body`. Where it waits for the device, reads from it, copies from host
/// memory or fails, the recording is refused.
///
/// # Errors
///
/// [`Error::Device`](crate::Error::Device) where the device had failed before.
pub fn record<T, E: Display>(
    gpu: &CudaDevice,
    body: impl FnOnce() -> std::result::Result<T, E>,
) -> Result<Recording<T>> {
    let stream = gpu.cuda_stream();
    stream.context().check_err().map_err(device(OP))?;
    let listening = drawn::listen();
    let cached = gpu.enable_cuda_graph_htod_cache();
    let capture = match Capture::begin(&stream) {
        Ok(capture) => capture,
        Err(why) => return Ok(Recording::Refused(format!("its stream cannot be recorded: {why}"))),
    };
    let value = body();
    let graph = capture.end();
    drop(cached);
    let drawn = listening.end();
    // After a failure within the recording there was nothing to free.
    let freed = stream.context().check_err();
    // Also where the body failed: what it has left behind elsewhere has to have its memory, which somebody will free.
    let ready = graph.as_ref().map_err(Clone::clone).and_then(|graph| begin(gpu, graph, &drawn));
    let value = match value {
        Ok(value) => value,
        Err(error) => return Ok(Recording::Refused(error.to_string())),
    };
    let why = match (freed, ready, graph) {
        (Ok(()), Ok((draws, keys)), Ok(graph)) => {
            let graph = StepGraph { graph, gpu: gpu.clone(), draws, keys };
            return Ok(Recording::Ready(graph, value));
        }
        (Err(error), ..) => format!("memory from before it was freed in it: {error}"),
        (.., Err(why), _) | (.., Err(why)) => why,
    };
    // Where the graph was not launched, its memory is not there to be freed.
    drop(value);
    let _ = stream.context().check_err();
    Ok(Recording::Refused(why))
}

/// The first launch; gives the kernels that draw, and their keys. What the pool keeps of the steps before is given back, so that
/// there is room for the graph's memory.
fn begin(
    gpu: &CudaDevice,
    graph: &CudaGraph,
    drawn: &[drawn::Drawn],
) -> std::result::Result<(Vec<Draws>, Vec<u64>), String> {
    let text = |error: crate::Error| error.to_string();
    let kernels = kernels(graph)?;
    gpu.cuda_stream().synchronize().map_err(device(OP)).map_err(text)?;
    pool::trim(gpu).map_err(text)?;
    graph.launch().map_err(device(OP)).map_err(text)?;
    draws(kernels, drawn)
}

impl StepGraph {
    /// The keys of the draws that were recorded, each once.
    pub fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// Queues the graph on its stream, with a key in the place of each of [`keys`](Self::keys).
    ///
    /// # Errors
    ///
    /// [`Error::LengthMismatch`](crate::Error::LengthMismatch) for another number of keys, and
    /// [`Error::Device`](crate::Error::Device).
    pub fn launch(&self, keys: &[u64]) -> Result<()> {
        let (expected, got) = (self.keys.len(), keys.len());
        if expected != got {
            return Err(crate::Error::LengthMismatch { op: OP, argument: "keys", expected, got });
        }
        for draws in &self.draws {
            self.set(draws, keys[draws.key])?;
        }
        self.graph.launch().map_err(device(OP))
    }

    fn set(&self, draws: &Draws, key: u64) -> Result<()> {
        let mut words = draws.words.clone();
        words[draws.at] = key;
        let mut args = [words.as_mut_ptr().cast::<c_void>()];
        let mut params = draws.params;
        (params.kernelParams, params.extra) = (args.as_mut_ptr(), std::ptr::null_mut());
        // SAFETY: the node is one of the graph's, which is alive, and its kernel takes one struct of these words, as it was launched
        // with them. The driver copies them during the call. Only the key differs, which is no address.
        unsafe {
            sys::cuGraphExecKernelNodeSetParams_v2(self.graph.cu_graph_exec(), draws.node, &raw const params)
        }
        .result()
        .map_err(device(OP))
    }
}

impl Drop for StepGraph {
    fn drop(&mut self) {
        // What it used comes back when the next one goes, where the device is not done with it yet.
        let _ = pool::trim_graphs(&self.gpu);
    }
}

type Kernel = (sys::CUgraphNode, sys::CUDA_KERNEL_NODE_PARAMS);

/// The graph's kernels.
///
/// # Errors
///
/// Why the graph is not to be launched.
fn kernels(graph: &CudaGraph) -> std::result::Result<Vec<Kernel>, String> {
    let mut kernels = Vec::new();
    for node in nodes::all(graph.cu_graph()).map_err(|error| error.to_string())? {
        match Node::of(node).map_err(|error| error.to_string())? {
            Node::FromHost => {
                return Err("it copies from the host's memory, which is another at each step".into());
            }
            Node::ToHost => return Err("it copies to the host's memory".into()),
            Node::HostCall => return Err("it calls back to the host".into()),
            Node::Kernel(params) => kernels.push((node, params)),
            Node::Other => {}
        }
    }
    Ok(kernels)
}

/// Those of the kernels that draw, and their keys.
///
/// # Errors
///
/// Where a launch that draws is none of them.
fn draws(
    kernels: Vec<Kernel>,
    drawn: &[drawn::Drawn],
) -> std::result::Result<(Vec<Draws>, Vec<u64>), String> {
    let (mut draws, mut keys) = (Vec::new(), Vec::<u64>::new());
    for (node, params) in kernels {
        let Some(drawn) = drawn.iter().find(|drawn| drawn.is(&params)) else { continue };
        let (words, at) = (drawn.words.clone(), drawn.at);
        let key = keys.iter().position(|&known| known == words[at]).unwrap_or_else(|| {
            keys.push(words[at]);
            keys.len() - 1
        });
        draws.push(Draws { node, params, words, at, key });
    }
    match drawn.iter().all(|drawn| keys.contains(&drawn.words[drawn.at])) {
        true => Ok((draws, keys)),
        false => Err("a kernel that draws is not to be found in it".into()),
    }
}

/// A capture that is under way, and ends with this.
struct Capture<'a>(Option<&'a Arc<CudaStream>>);

impl<'a> Capture<'a> {
    fn begin(stream: &'a Arc<CudaStream>) -> std::result::Result<Self, String> {
        stream
            .begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED)
            .map_err(|error| error.to_string())?;
        Ok(Self(Some(stream)))
    }

    fn end(mut self) -> std::result::Result<CudaGraph, String> {
        let Some(stream) = self.0.take() else { return Err("there is no capture".into()) };
        // An error of an earlier free would be taken for one of this call.
        let freed = stream.context().check_err();
        let graph = stream.end_capture(FLAGS).map_err(|error| error.to_string())?;
        stream.context().record_err(freed);
        graph.ok_or_else(|| "nothing was launched in it".to_string())
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        if let Some(stream) = self.0.take() {
            // After a panic: what was recorded is of no use.
            let _ = stream.context().check_err();
            let _ = stream.end_capture(FLAGS);
        }
    }
}
