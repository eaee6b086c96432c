//! candle-nn's layers, with its constructor and parameter names, on top of [`crate::ops`].

mod embedding;
mod linear;
mod norm;

pub use embedding::{Embedding, embedding};
pub use linear::{Linear, linear, linear_b, linear_no_bias};
pub use norm::{
    GroupNorm, LayerNorm, LayerNormConfig, RmsNorm, group_norm, layer_norm, layer_norm_no_bias, rms_norm,
};
