//! autocast: which dtype each op runs in, as data; regions, the cast cache, and differentiable ops and layers. It
//! leaves the update of parameters to an optimizer.

mod backward;
mod cache;
mod complex;
mod error;
pub mod nn;
pub mod ops;
mod prepare;
mod region;
mod table;

pub use backward::{backward, deep_stack};
pub use cache::{CachePolicy, CacheStats, parameters_changed};
pub use complex::{ComplexTensor, complex_dtype};
pub use error::{Error, Result};
pub use prepare::{cast_inputs, cast_slice};
pub use region::{Autocast, RegionGuard, cache_stats, no_grad};
pub use table::{CastRule, OpTable};
