//! Functions over candle tensors that ask the region for their dtype, compute, and have a correct backward.

mod attention;
mod attention_mask;
mod bias;
mod custom;
mod einsum;
mod embedding;
mod expand;
mod linear;
mod matmul;
mod product;

pub use attention::{AttentionDropout, AttentionMask, AttentionOptions, scaled_dot_product_attention};
pub use einsum::einsum;
pub use embedding::{embedding, embedding_with_padding};
pub use linear::linear;
pub use matmul::{
    addbmm, addmm, addmv, addr, baddbmm, bmm, chain_matmul, dot, linalg_vecdot, matmul, mm, mv, outer,
};
