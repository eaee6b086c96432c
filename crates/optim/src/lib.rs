//! Optimizers whose arithmetic is f32 (f64 for f64 parameters) whatever a parameter is stored in, and schedules.
//!
//! Every optimizer is a [`Fused`] with a [`Rule`]: a step looks at the gradients, decides, unscales, clips, updates and writes
//! back the copy that the model reads, all in `backends`' kernels and alike on every device. What a 16-bit parameter cannot
//! hold is kept as [`WriteBack`] says, by default in an f32 master. When a step is taken is decided elsewhere: by the loop,
//! or by a `grad_scaler::GradScaler`, which drives any [`ScaledOptimizer`].
//!
//! With the feature `cuda`, parameters may be on a CUDA device, where a step is two launches for all of them together and
//! the host does not wait. It then hears of skipped steps late: see [`Optimizer::steps`].

mod accumulate;
mod clip;
mod error;
mod fused;
mod gradients;
mod group;
mod optimizer;
mod parameter;
mod rule;
mod saved;
pub mod schedule;
mod state;
mod step;
mod strictness;

pub use accumulate::accumulate;
pub use backends::kernels::loss_scale::LossScale;
pub use backends::kernels::step::{Outcome, Pending, Scaling, Seen, StepCounts};
pub use clip::{Clip, clip_grad_norm, clip_grad_value};
pub use error::{Error, Result};
pub use fused::Fused;
pub use gradients::gradients;
pub use group::Group;
pub use optimizer::{Optimizer, ScaledOptimizer};
pub use parameter::{OptimizerId, Parameter, named_parameters};
pub use rule::{Adam, AdamConfig, AdamW, AdamWConfig, Lion, LionConfig, Momentum, Rule, Sgd, SgdConfig};
pub use schedule::Schedule;
pub use state::WriteBack;
pub use strictness::{LoadReport, Strictness};
