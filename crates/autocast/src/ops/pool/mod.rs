//! Pooling by windows, and resampling.

mod interpolate;
mod largest;
mod resample;
mod window;

pub use interpolate::{InterpolateMode, interpolate};
pub use window::{PoolOptions, adaptive_avg_pool2d, avg_pool1d, avg_pool2d, max_pool1d, max_pool2d};
