//! Whether steps are recorded as CUDA graphs.

use crate::TrainerBuilder;

/// What of a fit or an evaluation is queued on a GPU as one, as a CUDA graph, where it otherwise is hundreds of launches.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches};
/// use trainer::{CudaGraph, Notice, Trainer};
///
/// let trainer = Trainer::builder().accelerator("cpu").max_steps(5).cuda_graph(CudaGraph::Passes);
/// // There is nothing to record on a CPU, which is told; the fit is what it is without.
/// let fit = trainer.on_notice(|_| ()).build()?.fit(&Line, &batches(5)?)?;
/// assert!(matches!(fit.notices[0], Notice::NoEffect { setting: "cuda_graph", .. }));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CudaGraph {
    /// Nothing.
    #[default]
    Off,
    /// The forward and the backward pass over a batch, once three batches of its shapes have come, after which the optimizer's few launches
    /// follow; and the forward pass of [`predict`](crate::Trainer::predict), [`validate`](crate::Trainer::validate) and
    /// [`test`](crate::Trainer::test), likewise in each call.
    ///
    /// `training_step` (`predict_step`, …) is then not called: the device repeats what the call for the fourth batch has queued, with the tensors of the
    /// batch at hand, its own dropout masks and the loss scale as it is. So what the method does on the host is done when it
    /// is recorded and not again: what it prints or counts, numbers that it computes of its
    /// [`StepContext`](crate::StepContext), numbers and strings beside the tensors of a batch. What it reads beside parameters
    /// and batch has to stay in its place.
    ///
    /// Losses, metrics, parameters and predictions are those without it, to the bit. Where a pass cannot be recorded, because it
    /// reads from the device, moves a tensor there, or draws masks on the host, it goes on as without, and a
    /// [`Notice::NotRecorded`](crate::Notice::NotRecorded) says why, once; so do batches of ever other shapes.
    Passes,
}

impl TrainerBuilder {
    /// What of a fit or an evaluation is queued on a GPU as one. The default is nothing: see [`CudaGraph`] for what changes.
    pub fn cuda_graph(mut self, graph: CudaGraph) -> Self {
        self.settings.steps.graph = graph;
        self
    }
}
