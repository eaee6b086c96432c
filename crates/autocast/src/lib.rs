//! autocast: which dtype each op runs in, as data; regions, the cast cache, and differentiable ops and layers. It
//! leaves the update of parameters to an optimizer.

mod error;
pub mod nn;
pub mod ops;
mod prepare;
mod table;

pub use error::{Error, Result};
pub use prepare::{cast_inputs, cast_slice};
pub use table::{CastRule, OpTable};
