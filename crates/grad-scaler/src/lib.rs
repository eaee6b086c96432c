//! Dynamic loss scaling: a pure state machine, [`ScaleState`], and the layer over tensors around it, [`GradScaler`].
//!
//! Gradients in f16 vanish below 2^-24. Multiplying the loss by a scale moves them up into f16's range; when one of them
//! overflows, the step is skipped and the scale backs off; when none has for a while, it grows.
//!
//! Works with this workspace's `optim`, whose fused step takes the scale out itself, and through [`Scaled`] with any
//! `candle_nn::Optimizer`. How parameters are updated is the optimizer's business.
//!
//! # Source
//!
//! Micikevicius et al., *Mixed Precision Training* (2018); `torch/amp/grad_scaler.py`.

mod config;
mod error;
mod gradients;
mod optimizer;
mod outcome;
mod scaled;
mod scaler;
mod state;

pub use config::{Refill, ScalerConfig};
pub use error::{Error, Result};
pub use optimizer::{OptimizerId, Parameter, ScaledOptimizer, Unscaling};
pub use outcome::{StepCounts, StepOutcome};
pub use scaled::Scaled;
pub use scaler::GradScaler;
pub use state::ScaleState;
