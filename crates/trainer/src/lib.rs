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
//! use trainer::{Optimization, Parameters, StepContext, StepOutput, Trainer, TrainingModule};
//!
//! struct Line;
//!
//! impl TrainingModule for Line {
//!     type Model = nn::Linear;
//!     type Batch = (Tensor, Tensor);
//!
//!     fn build(&self, vb: candle_nn::VarBuilder) -> trainer::Result<nn::Linear> {
//!         Ok(nn::linear(1, 1, vb)?)
//!     }
//!
//!     fn training_step(
//!         &self,
//!         line: &nn::Linear,
//!         (x, y): &Self::Batch,
//!         _: &StepContext,
//!     ) -> trainer::Result<StepOutput> {
//!         Ok(ops::mse_loss(&line.forward(x)?, y, ops::Reduction::Mean)?.into())
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
//! let fit = trainer.fit(&Line, std::iter::repeat((x, y)))?;
//! assert!(fit.losses[49] < fit.losses[0]);
//! # Ok(())
//! # }
//! ```

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide.md")]
struct Guide;

mod accelerator;
mod atomic;
mod batch;
mod bounds;
mod builder;
mod builder_loop;
mod callback;
pub mod callbacks;
mod checkpoint;
mod cuda_graph;
pub mod data;
#[doc(hidden)]
pub mod doc_example;
mod effects;
mod error;
mod evaluate;
mod event;
mod explain;
mod files;
mod fit;
mod fitting;
mod followers;
mod forward;
mod interrupt;
mod logger;
mod losses;
mod matmul;
mod measure;
mod memory;
mod module;
mod notice;
mod optimization;
mod output;
mod own_precision;
mod parameters;
mod precision_plugin;
mod progress;
mod recommend;
pub mod report;
mod run;
mod settings;
mod source;
mod state;
mod step;
mod storage;
mod summary;
mod table;
mod trainer;
mod update;
mod weights;

/// The crates under this one, in the versions that it was built with, so that a program needs no other dependency.
pub use {autocast, candle_core, candle_nn, grad_scaler, optim};

pub use grad_scaler::Strictness;
pub use precision_types::{Accelerator, IntoPrecision, Precision, SupportMatrix};

pub use accelerator::{AcceleratorChoice, IntoAcceleratorChoice};
pub use batch::Batch;
pub use builder::{OnNonFinite, OnUnsupported, TrainerBuilder};
pub use callback::{Callback, Control, Logger};
pub use checkpoint::{Best, ModelCheckpoint};
pub use cuda_graph::CudaGraph;
pub use error::{Error, Result};
pub use event::{EndReason, FitEnd, FitStart, Gradients, Metrics, Position};
pub use fit::Fit;
pub use logger::{CsvLogger, JsonLinesLogger, TensorBoardLogger};
pub use measure::Measured;
pub use module::{StepContext, TrainingModule};
pub use notice::Notice;
pub use optimization::Optimization;
pub use output::StepOutput;
pub use own_precision::OwnPrecision;
pub use parameters::Parameters;
pub use precision_plugin::PrecisionPlugin;
pub use progress::ProgressBar;
pub use recommend::{Recommendation, Row};
pub use report::HtmlReport;
pub use settings::{Limit, OnInterrupt};
pub use source::{Data, DataSource, FromClosure, FromIter, FromSource, IntoBatch, IntoData};
pub use state::{Accumulated, TrainingState};
pub use step::Step;
pub use summary::{LayerSummary, ModelSummary};
pub use trainer::Trainer;
pub use weights::{load_weights, weights_under};
