//! The kernels, one folder each.

pub mod adamw;
pub mod fused_step;
pub mod grad_stats;
pub mod lion;
pub mod sgd;
