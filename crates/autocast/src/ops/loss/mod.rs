//! Losses. All arithmetic is in f32 (f64 for f64); the value is rounded once to the dtype of the inputs, which the
//! tables' rule for losses widens to f32 in a region.

mod binary;
mod classifier;
mod cross_entropy;
mod difference;
mod elementwise;
mod fused;
mod nll;
mod reduction;
mod rows;
mod targets;

pub use binary::{BinaryCrossEntropy, binary_cross_entropy, binary_cross_entropy_with_logits};
pub use classifier::{LinearCrossEntropy, linear_cross_entropy};
pub use cross_entropy::cross_entropy;
pub use difference::{huber_loss, l1_loss, mse_loss, smooth_l1_loss};
pub use elementwise::{KlTarget, kl_div};
pub use fused::CrossEntropy;
pub use nll::{NllLoss, nll_loss};
pub use reduction::Reduction;
