//! Models that checks and benchmarks train, each written once, with nothing in it that knows a precision.

mod gpt;
mod mlp;

pub use gpt::{Gpt, GptConfig, Head, Initial};
pub use mlp::{Mlp, MlpConfig};
