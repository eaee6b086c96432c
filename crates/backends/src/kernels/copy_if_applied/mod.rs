//! Tensors that are copied over others if a step was applied, and left where it was skipped: what a forward pass wants to
//! remember, such as running statistics, of a step about which the device has yet to decide.
//!
//! Contract: bit-exact, a NaN's payload included. On a CPU the outcome is known, and there is nothing to decide.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;
