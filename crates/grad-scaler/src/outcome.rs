//! What became of a step.

/// Whether a step changed the parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// The parameters moved.
    Applied,
    /// A gradient was infinite or NaN: no parameter, moment or step counter changed.
    Skipped {
        /// The parameters whose gradients were infinite or NaN, in the optimizer's order.
        overflowed: Vec<String>,
    },
    /// The device is still deciding. [`GradScaler::steps`](crate::GradScaler::steps) knows later. Never on a CPU.
    Pending,
}
