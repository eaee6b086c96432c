//! Dynamic loss scaling: [`GradScaler`], around the state machine that `backends` runs on every device, [`ScaleState`].
//!
//! Gradients in f16 vanish below 2^-24. Multiplying the loss by a scale moves them up into f16's range; when one of them
//! overflows, the step is skipped and the scale backs off; when none has for a while, it grows.
//!
//! Drives `optim`'s optimizers, whose step takes the scale out itself and decides where the gradients are, and through
//! [`Scaled`] any `candle_nn::Optimizer`. How parameters are updated is the optimizer's business.
//!
//! A training loop by hand, with an optimizer of candle-nn:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use candle_core::{DType, Device, Tensor, Var};
//! use candle_nn::SGD;
//! use grad_scaler::{GradScaler, Scaled, ScalerConfig, StepOutcome};
//!
//! let weight = Var::ones(4, DType::F16, &Device::Cpu)?;
//! let mut optimizer = Scaled::<SGD>::new([("weight", weight.clone())], 0.1)?;
//! let mut scaler = GradScaler::new(ScalerConfig::recommended(), &Device::Cpu)?;
//!
//! let data = Tensor::new(&[1e-3f32, 2e-3, 3e-3, 4e-3], &Device::Cpu)?;
//! for _ in 0..3 {
//!     let loss = (weight.to_dtype(DType::F32)? * &data)?.sum_all()?;
//!     let grads = scaler.scale(&loss)?.backward()?;
//!     if let StepOutcome::Skipped { .. } = scaler.step(&mut optimizer, &grads)? {
//!         eprintln!("skipped at scale {}", scaler.get_scale()?);
//!     }
//!     scaler.update()?;
//! }
//! assert_eq!(scaler.steps()?.applied, 3);
//! # Ok(())
//! # }
//! ```
//!
//! A run at a precision that needs no scale may still meet a batch whose gradients are not finite: [`GradScaler::skipping`]
//! skips such a step in the same way, and scales nothing.
//!
//! On a CUDA device (feature `cuda`) the scale lives there, `optim`'s steps are taken or skipped there, and
//! [`StepOutcome::Pending`] comes back at once. What makes the host wait for the device: [`GradScaler::get_scale`] and
//! the states, [`GradScaler::unscale_`], diagnostics, and steps of candle-nn's optimizers.
//!
//! # Source
//!
//! Micikevicius et al., *Mixed Precision Training* (2018); `torch/amp/grad_scaler.py`.

mod active;
mod commit;
mod config;
mod diagnostics;
mod error;
mod outcome;
mod scaled;
mod scaler;
mod state_dict;

pub use backends::kernels::loss_scale::{Refill, ScaleState, ScalerConfig};
pub use diagnostics::{Diagnostics, DiagnosticsConfig, HistoryEntry, Underflow, Warning};
pub use error::{Error, Result};
pub use optim::{LoadReport, ScaledOptimizer, StepCounts, Strictness};
pub use outcome::StepOutcome;
pub use scaled::Scaled;
pub use scaler::GradScaler;
pub use state_dict::{StateDict, StateValue};
