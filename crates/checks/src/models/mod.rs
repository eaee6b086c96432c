//! Models that checks and benchmarks train, each written once, with nothing in it that knows a precision.

pub mod closures;
mod gpt;
mod mlp;
mod next_token;
pub mod ported;
pub mod reference;
mod resnet;
pub mod survival;
pub mod wide_layer;

pub use gpt::{Gpt, GptConfig, Head, Initial};
pub use mlp::{Mlp, MlpConfig};
pub use resnet::{ResNet, ResNetConfig};
