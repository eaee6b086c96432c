//! The kernels, one folder each.

pub mod adamw;
pub mod attention;
pub mod cast;
pub mod copy_if_applied;
pub mod fused_step;
pub mod grad_stats;
pub mod lion;
pub mod max_pool;
pub mod pointwise;
pub mod resample;
pub mod row_sums;
pub mod scaler_update;
pub mod sgd;
pub mod sum;
