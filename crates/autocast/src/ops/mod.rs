//! Functions over candle tensors that ask the region for their dtype, compute, and have a correct backward.

mod activation;
mod arithmetic;
mod attention;
mod attention_mask;
mod bias;
mod custom;
mod einsum;
mod elementwise;
mod embedding;
mod expand;
mod float;
mod linear;
mod loss;
mod matmul;
pub(crate) mod norm;
mod product;
mod record;
mod softmax;
mod sum_to;

pub use activation::{gelu, gelu_tanh};
pub use arithmetic::{add, add_scalar, div, div_scalar, mul, mul_scalar, sub};
pub use attention::{AttentionDropout, AttentionMask, AttentionOptions, scaled_dot_product_attention};
pub use einsum::einsum;
pub use embedding::{embedding, embedding_with_padding};
pub use linear::linear;
pub use loss::{CrossEntropy, Reduction, cross_entropy};
pub use matmul::{
    addbmm, addmm, addmv, addr, baddbmm, bmm, chain_matmul, dot, linalg_vecdot, matmul, mm, mv, outer,
};
pub use norm::{group_norm, layer_norm, rms_norm};
pub use softmax::{log_softmax, logsumexp, softmax};
