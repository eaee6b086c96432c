//! CPU and CUDA kernels behind safe functions: slices and device buffers in, results out.
//!
//! No tensor, no graph: which tensor goes into which kernel is the caller's business. A kernel lives in
//! `kernels/<op>/`, whose `mod.rs` states its formula and what it does with rounding, NaN, signed zero and
//! subnormals, and whose `scalar.rs` is the oracle that every other path is held to.

#[cfg(feature = "candle")]
pub mod algorithms;
#[cfg(feature = "candle")]
pub mod bridge;
pub mod buffer;
#[cfg(feature = "cuda")]
pub mod cuda;
mod error;
mod floats;
mod heap;
pub mod kernels;
#[cfg(feature = "candle")]
mod moved;
pub mod random;
mod simd;
mod threads;

pub use error::{Error, Result};
pub use floats::{Element, Floats, Real, Store};
pub use heap::{keep_memory, release_memory};
#[cfg(feature = "candle")]
pub use moved::into_storage;
pub use threads::join_pool;
