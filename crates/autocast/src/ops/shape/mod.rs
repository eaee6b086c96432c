//! Shapes: joining tensors, and what other ops ask and check of shapes, sizes and indices.

pub(crate) mod broadcast;
pub(crate) mod empty;
pub(crate) mod index;
mod join;
pub(crate) mod layout;
pub(crate) mod size;

pub use join::{cat, stack, where_cond};
