//! Training at any precision by changing one string: the facade over `autocast`, `grad-scaler` and `optim`.
//!
//! A [`Trainer`] composes them as the precision asks; a [`TrainingModule`] is what you write. There is no arithmetic on
//! tensors here: what each op computes in is `autocast`'s, how the loss is scaled `grad-scaler`'s, and how parameters
//! change `optim`'s.
//!
//! ```
//! # fn main() -> trainer::Result<()> {
//! use autocast::{nn, ops};
//! use candle_core::{Device, Module, Tensor};
//! use optim::{AdamW, AdamWConfig};
//! use trainer::{Optimization, Parameters, Trainer, TrainingModule};
//!
//! #[derive(Default)]
//! struct Line(Option<nn::Linear>);
//!
//! impl TrainingModule for Line {
//!     type Batch = (Tensor, Tensor);
//!
//!     fn configure_model(&mut self, vb: candle_nn::VarBuilder) -> trainer::Result<()> {
//!         self.0 = Some(nn::linear(1, 1, vb)?);
//!         Ok(())
//!     }
//!
//!     fn training_step(&self, (x, y): &Self::Batch) -> trainer::Result<Tensor> {
//!         let line = self.0.as_ref().expect("configured before the first step");
//!         Ok(ops::mse_loss(&line.forward(x)?, y, ops::Reduction::Mean)?)
//!     }
//!
//!     fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
//!         Ok(Optimization::new(AdamW::new(parameters.to_named(), AdamWConfig { lr: 0.1, ..Default::default() })?))
//!     }
//! }
//!
//! let x = Tensor::new(&[[0f32], [1.], [2.]], &Device::Cpu)?;
//! let y = Tensor::new(&[[1f32], [3.], [5.]], &Device::Cpu)?;
//! let trainer = Trainer::builder().precision("bf16-mixed").accelerator("cpu").max_steps(50).build()?;
//! let fit = trainer.fit(&mut Line::default(), std::iter::repeat((x, y)))?;
//! assert!(fit.losses[49] < fit.losses[0]);
//! # Ok(())
//! # }
//! ```

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

mod accelerator;
mod batch;
mod builder;
mod callback;
pub mod callbacks;
pub mod data;
mod error;
mod event;
mod files;
mod fit;
mod logger;
mod losses;
mod memory;
mod module;
mod notice;
mod parameters;
mod progress;
pub mod report;
mod run;
mod source;
mod state;
mod summary;
mod table;
mod trainer;
mod update;

/// The crates under this one, in the versions that it was built with, so that a program needs no other dependency.
pub use {autocast, candle_core, candle_nn, grad_scaler, optim};

pub use grad_scaler::Strictness;
pub use precision_types::{Accelerator, IntoPrecision, Precision, SupportMatrix};

pub use accelerator::{AcceleratorChoice, IntoAcceleratorChoice};
pub use batch::Batch;
pub use builder::{OnNonFinite, OnUnsupported, TrainerBuilder};
pub use callback::{Callback, Control, Logger};
pub use error::{Error, Result};
pub use event::{EndReason, FitEnd, FitStart, Gradients, Metrics, Position};
pub use fit::{Fit, Step};
pub use logger::{CsvLogger, JsonLinesLogger, TensorBoardLogger};
pub use module::{Optimization, TrainingModule};
pub use notice::Notice;
pub use parameters::Parameters;
pub use progress::ProgressBar;
pub use report::HtmlReport;
pub use source::DataSource;
pub use state::TrainingState;
pub use summary::{LayerSummary, ModelSummary};
pub use trainer::Trainer;
