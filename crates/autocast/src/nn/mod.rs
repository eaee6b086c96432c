//! candle-nn's layers, with its constructor and parameter names, on top of [`crate::ops`].

mod embedding;
mod linear;

pub use embedding::{Embedding, embedding};
pub use linear::{Linear, linear, linear_b, linear_no_bias};
