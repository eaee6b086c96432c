//! candle-nn's layers, with its constructor and parameter names, on top of [`crate::ops`].

mod activation;
mod attention;
mod batch_norm;
mod conv;
mod dropout;
mod embedding;
mod linear;
mod norm;
mod rnn;
mod sequential;

pub use activation::Activation;
pub use attention::{MultiHeadAttention, MultiHeadAttentionConfig, multi_head_attention};
pub use batch_norm::{BatchNorm, BatchNormConfig, batch_norm};
pub use candle_nn::rnn::{Direction, GRUState, LSTMState};
pub use candle_nn::{
    Conv1dConfig, Conv2dConfig, ConvTranspose1dConfig, ConvTranspose2dConfig, GRUConfig, LSTMConfig, RNN,
};
pub use conv::{
    Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, conv_transpose1d, conv_transpose1d_no_bias,
    conv_transpose2d, conv_transpose2d_no_bias, conv1d, conv1d_no_bias, conv2d, conv2d_no_bias,
};
pub use dropout::Dropout;
pub use embedding::{Embedding, embedding};
pub use linear::{Linear, linear, linear_b, linear_no_bias};
pub use norm::{
    GroupNorm, LayerNorm, LayerNormConfig, RmsNorm, group_norm, layer_norm, layer_norm_no_bias, rms_norm,
};
pub use rnn::{Gru, Lstm, gru, lstm};
pub use sequential::{Sequential, seq};
