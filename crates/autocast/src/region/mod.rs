//! The region: which table and fast dtype hold on a thread, and how ops cast their inputs by it.
//!
//! Start at [`Autocast`]. A region is kept with what else a thread's ops follow in `thread`; `cast` is what an op calls first,
//! and `cache` keeps casts of parameters.

mod autocast;
mod cache;
mod cast;
mod mode;
mod settings;
mod thread;

pub use autocast::{Autocast, RegionGuard};
pub use cache::{CachePolicy, CacheStats};
pub use cast::{cast_inputs, cast_slice, cast_to};
pub(crate) use cast::{float_inputs, promoted_slice, recorded, retyped, uncast, widen};
pub use mode::Mode;
pub(crate) use thread::grad_mode;
pub use thread::{cache_stats, fast_ops, mode, no_grad, parameters_changed, with_mode};
