//! The kernels, one folder each.

pub mod adamw;
pub mod cast;
pub mod fused_step;
pub mod grad_stats;
pub mod lion;
pub mod scaler_update;
pub mod sgd;
