//! Convolutions and transposed convolutions: one kernel each where the device has one (`engine`), else made of `correlation`'s
//! products.

mod convolution;
mod correlation;
mod engine;
mod transposed;

pub use convolution::{ConvOptions, conv1d, conv2d};
pub use transposed::{ConvTransposeOptions, conv_transpose1d, conv_transpose2d};
