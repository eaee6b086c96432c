//! The loss scale after a step, on the device that the scale lives on.
//!
//! ```text
//! found_inf:  hysteresis_left -= 1; tracker = 0; at 0 left: scale = max(f32(scale * backoff), min_scale)
//! else:       tracker += 1; at the interval: n = min(f32(scale * growth), max_scale); if finite: scale = n; tracker = 0
//! ```
//!
//! The hysteresis is filled again when a growth interval ends, or at every clean step. Contract: bit-exact against
//! `ScaleState::update` of `grad-scaler`, which is what a CPU runs and what this kernel is held to.
//!
//! # Source
//!
//! PyTorch's `_amp_update_scale_` (`aten/src/ATen/native/cuda/AmpKernels.cu`); hysteresis as in apex and Megatron-LM.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;
