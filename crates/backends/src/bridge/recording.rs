//! Recording what is queued on a device, to queue it again as one: on a CUDA device, with the feature `cuda`.

#[cfg(feature = "cuda")]
pub use crate::cuda::{Recording, StepGraph};
#[cfg(not(feature = "cuda"))]
pub use without::{Recording, StepGraph};

use candle_core::Device;
use std::fmt::Display;

use crate::Result;

/// Runs `f` as it is to be run once before it is [`record`]ed: what it uploads for the shapes of its tensors, up to 4 KiB each, is kept
/// by candle until the process ends.
pub fn rehearse<R>(on: &Device, f: impl FnOnce() -> R) -> R {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(gpu) = on {
        let _kept = gpu.enable_cuda_graph_htod_cache();
        return f();
    }
    let _ = on;
    f()
}

/// Records what `body` queues on the device, and queues it once. Refused on anything but a CUDA device.
///
/// What `body` gives holds what the last launch has written. Beforehand the same has to have run in [`rehearse`], and nothing that
/// was allocated before `body` may be freed in it. Where it waits for the device, reads from it, copies from host memory or
/// fails, the recording is refused; the device may have done a part of it, and nothing of what was there before has changed.
///
/// # Errors
///
/// [`Error::Device`](crate::Error::Device) where the device had failed before.
pub fn record<T, E: Display>(
    on: &Device,
    body: impl FnOnce() -> std::result::Result<T, E>,
) -> Result<Recording<T>> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(gpu) = on {
        return crate::cuda::record(gpu, body);
    }
    let _ = (on, body);
    Ok(Recording::Refused("it is for CUDA devices".into()))
}

/// What there is where nothing can be recorded.
#[cfg(not(feature = "cuda"))]
mod without {
    use crate::Result;

    /// What came of a recording.
    pub enum Recording<T> {
        /// A graph that has been launched once, and what the recorded code gave.
        Ready(StepGraph, T),
        /// Why there is none.
        Refused(String),
    }

    /// A recorded graph, of which there is none.
    pub struct StepGraph(std::convert::Infallible);

    impl StepGraph {
        /// The keys of the draws that were recorded.
        pub fn keys(&self) -> &[u64] {
            match self.0 {}
        }

        /// Queues the graph with other keys.
        ///
        /// # Errors
        ///
        /// None.
        pub fn launch(&self, _: &[u64]) -> Result<()> {
            match self.0 {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_recorded_on_a_cpu() {
        let recording = record(&Device::Cpu, || Err::<(), _>("the body ran")).unwrap();
        let Recording::Refused(why) = recording else { panic!("there is a graph") };
        assert!(why.contains("CUDA"), "{why}");
        assert_eq!(rehearse(&Device::Cpu, || 7), 7);
    }
}
