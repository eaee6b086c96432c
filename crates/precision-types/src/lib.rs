//! The names and the numbers of training precision, without a tensor library: which precisions exist, what each one
//! means for parameters, arithmetic and results, which accelerators run it, and how its float formats round.
//!
//! Everything with a tensor in it is left to the other crates of the workspace.
//!
//! ```
//! use precision_types::{Accelerator, DType, FloatFormat, IntoPrecision, Precision, round_nearest_even};
//!
//! # fn main() -> Result<(), precision_types::Error> {
//! let precision: Precision = "bf16-mixed".parse()?;
//! assert_eq!(precision.param_dtype(), DType::F32);
//! assert_eq!(precision.compute_dtype(), DType::Bf16);
//! assert!(!precision.needs_loss_scaling());
//!
//! // What a user may write, with a notice for the historical spellings.
//! let requested = 16.into_precision()?;
//! assert_eq!(requested.precision, Precision::F16Mixed);
//! assert!(requested.notice.is_some());
//!
//! // What cannot run says what can.
//! let refusal = requested.precision.supported_on(Accelerator::Cpu).unwrap_err();
//! assert_eq!(refusal.alternatives[0], Precision::Bf16Mixed);
//!
//! // Below half of bf16's spacing at 1, an update is lost.
//! assert_eq!(round_nearest_even(1.0 + 1e-3, FloatFormat::Bf16), 1.0);
//! # Ok(())
//! # }
//! ```

mod accelerator;
mod dtype;
mod error;
mod format;
mod precision;
mod request;
mod rounding;
#[cfg(feature = "serde")]
mod serde_impls;
mod support;
mod ulp;

pub use accelerator::Accelerator;
pub use dtype::{ComplexDType, DType};
pub use error::{Error, Result};
pub use format::FloatFormat;
pub use precision::Precision;
pub use request::{IntoPrecision, LegacyNotice, RequestedPrecision};
pub use rounding::{bf16_from_f64, f16_from_f64, round_nearest_even, round_stochastic};
pub use support::{SupportMatrix, UnsupportedPrecision};
pub use ulp::{Float, ulp_distance};
