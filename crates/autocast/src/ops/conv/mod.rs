//! Convolutions and transposed convolutions, both made of `correlation`'s products.

mod convolution;
mod correlation;
mod transposed;

pub use convolution::{ConvOptions, conv1d, conv2d};
pub use transposed::{ConvTransposeOptions, conv_transpose1d, conv_transpose2d};
