//! Functions over candle tensors that ask the region for their dtype, compute, and have a correct backward.

mod activation;
mod arithmetic;
mod attention;
mod attention_mask;
mod bias;
mod conv;
mod conv_transpose;
mod correlation;
mod custom;
mod einsum;
mod elementwise;
mod embedding;
mod expand;
mod float;
mod interpolate;
pub(crate) mod linear;
mod loss;
mod matmul;
pub(crate) mod norm;
mod pool;
mod prelu;
mod product;
mod record;
mod resample;
mod rope;
mod softmax;
mod sum_to;

pub use activation::{gelu, gelu_tanh};
pub use arithmetic::{add, add_scalar, div, div_scalar, mul, mul_scalar, sub};
pub use attention::{AttentionDropout, AttentionMask, AttentionOptions, scaled_dot_product_attention};
pub use conv::{ConvOptions, conv1d, conv2d};
pub use conv_transpose::{ConvTransposeOptions, conv_transpose1d, conv_transpose2d};
pub use einsum::einsum;
pub use embedding::{embedding, embedding_with_padding};
pub use interpolate::{InterpolateMode, interpolate};
pub use linear::linear;
pub use loss::{CrossEntropy, Reduction, cross_entropy};
pub use matmul::{
    addbmm, addmm, addmv, addr, baddbmm, bmm, chain_matmul, dot, linalg_vecdot, matmul, mm, mv, outer,
};
pub use norm::{group_norm, layer_norm, rms_norm};
pub use pool::{PoolOptions, adaptive_avg_pool2d, avg_pool1d, avg_pool2d, max_pool1d, max_pool2d};
pub use prelu::prelu;
pub use rope::{RopePairs, rope};
pub use softmax::{log_softmax, logsumexp, softmax};
