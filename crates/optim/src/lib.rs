//! Optimizers whose arithmetic is f32 (f64 for f64 parameters) whatever a parameter is stored in, and schedules.
//!
//! Every optimizer is a [`Fused`] with a [`Rule`]: one pass looks at the gradients, one parallel pass unscales, clips,
//! updates and writes back the copy that the model reads. What a 16-bit parameter cannot hold is kept as [`WriteBack`]
//! says, by default in an f32 master. When a step is taken is decided elsewhere: by the loop, or by a
//! [`grad_scaler::GradScaler`].
//!
//! With the feature `cuda`, parameters may be on a CUDA device, where a step is two launches for all of them together and
//! the host does not wait. It then hears of skipped steps late: see [`Optimizer::applied_steps`].

mod clip;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod error;
mod fused;
mod gradients;
mod group;
mod look;
mod optimizer;
mod rule;
mod saved;
pub mod schedule;
mod state;
mod step;

pub use clip::{Clip, clip_grad_norm, clip_grad_value};
pub use error::{Error, Result};
pub use fused::Fused;
pub use grad_scaler::{
    LoadReport, OptimizerId, Parameter, ScaledOptimizer, StepOutcome, Strictness, Unscaling,
};
pub use group::Group;
pub use optimizer::{Optimizer, named_parameters};
pub use rule::{Adam, AdamConfig, AdamW, AdamWConfig, At, Lion, LionConfig, Momentum, Rule, Sgd, SgdConfig};
pub use schedule::Schedule;
pub use state::WriteBack;
