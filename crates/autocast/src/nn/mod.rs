//! candle-nn's layers, with its constructor and parameter names, on top of [`crate::ops`].
//!
//! A model that was written for candle-nn follows the region once its `use` line names these. As there, functions return
//! candle's result and layers are [`Module`](candle_core::Module)s or [`ModuleT`](candle_core::ModuleT)s; an
//! [`Error`](crate::Error) comes as candle's, with its words.
//!
//! ```
//! use autocast::Autocast;
//! use autocast::nn::{Activation, Conv2d, Conv2dConfig, Dropout, LayerNorm, Linear, conv2d, layer_norm, linear};
//! use candle_core::{DType, Device, Module, Result, Tensor};
//! use candle_nn::{VarBuilder, VarMap};
//!
//! struct Net {
//!     conv: Conv2d,
//!     norm: LayerNorm,
//!     layers: Vec<Linear>,
//!     dropout: Dropout,
//! }
//!
//! impl Net {
//!     fn new(width: usize, depth: usize, vb: VarBuilder) -> Result<Self> {
//!         let layers = (0..depth)
//!             .map(|i| linear(width, width, vb.pp(format!("layers.{i}"))))
//!             .collect::<Result<Vec<_>>>()?;
//!         Ok(Self {
//!             conv: conv2d(1, width, 3, Conv2dConfig { padding: 1, ..Default::default() }, vb.pp("conv"))?,
//!             norm: layer_norm(width, 1e-5, vb.pp("norm"))?,
//!             layers,
//!             dropout: Dropout::new(0.1),
//!         })
//!     }
//!
//!     fn forward(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
//!         let xs = xs.apply(&self.conv)?.mean((2, 3))?.apply(&self.norm)?;
//!         let xs = self.dropout.forward(&xs, train)?;
//!         self.layers.iter().try_fold(xs, |xs, layer| layer.forward(&xs)?.apply(&Activation::Gelu))
//!     }
//! }
//!
//! # fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
//! let varmap = VarMap::new();
//! let net = Net::new(4, 2, VarBuilder::from_varmap(&varmap, DType::F32, &Device::Cpu))?;
//! let images = Tensor::zeros((2, 1, 5, 5), DType::F32, &Device::Cpu)?;
//! let autocast = Autocast::new(precision_types::Accelerator::Cpu, DType::BF16)?;
//! let out = autocast.run(|| net.forward(&images, true))?;
//! assert_eq!((out.dims(), out.dtype()), (&[2, 4][..], DType::BF16));
//! # Ok(())
//! # }
//! ```

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
