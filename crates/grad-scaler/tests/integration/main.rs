//! What users of `grad-scaler` meet, in one binary, which is linked once.

mod config;
mod cuda;
mod cuda_non_finite;
mod cuda_optimizers;
#[cfg(feature = "cuda")]
mod gpu;
mod non_finite;
mod scaled_steps;
mod scaler;
mod skipping;
mod state_dict;
mod traces;
