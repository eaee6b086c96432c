//! The kernels, one folder each.

pub mod adamw;
pub mod cast;
pub mod copy_if_applied;
pub mod lion;
pub mod loss_scale;
pub mod max_pool;
pub mod pointwise;
pub mod resample;
pub mod row_sums;
pub mod sgd;
pub mod step;
pub mod sum;
