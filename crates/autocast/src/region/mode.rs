//! What a thread's ops follow beside the region.

/// Whether layers train or are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// Dropout drops, and BatchNorm normalises with its batch's statistics and moves the running ones.
    #[default]
    Train,
    /// Dropout drops nothing, BatchNorm normalises with the running statistics, and nothing is written to a model.
    Evaluate,
}

/// Whether a graph is being recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum GradMode {
    #[default]
    Record,
    Off,
}
