//! Functions over candle tensors that ask the region for their dtype, compute, and have a correct backward.
//!
//! A folder is a family of ops, a file an op of its own.

mod attention;
mod conv;
mod dropout;
mod embedding;
mod loss;
pub(crate) mod norm;
mod pointwise;
mod pool;
pub(crate) mod products;
pub(crate) mod reduce;
mod rope;
pub(crate) mod shape;
mod softmax;

pub use attention::{AttentionDropout, AttentionMask, AttentionOptions, scaled_dot_product_attention};
pub use conv::{ConvOptions, ConvTransposeOptions, conv_transpose1d, conv_transpose2d, conv1d, conv2d};
pub use dropout::{DropoutSeed, dropout};
pub use embedding::{embedding, embedding_with_padding};
pub use loss::{
    BinaryCrossEntropy, CrossEntropy, KlTarget, LinearCrossEntropy, NllLoss, Reduction, binary_cross_entropy,
    binary_cross_entropy_with_logits, cross_entropy, huber_loss, kl_div, l1_loss, linear_cross_entropy,
    mse_loss, nll_loss, smooth_l1_loss,
};
pub use norm::{
    BatchNormOutput, batch_norm_add_relu, batch_norm_eval, batch_norm_relu, batch_norm_train, group_norm,
    layer_norm, rms_norm,
};
pub use pointwise::{
    abs, acos, add, add_scalar, asin, atan, clamp, cos, cosh, div, div_scalar, elu, erf, erfinv, exp, expm1,
    gelu, gelu_tanh, hardsigmoid, hardswish, hardtanh, leaky_relu, log, log1p, log2, log10, maximum, minimum,
    mish, mul, mul_scalar, neg, pow, powf, prelu, reciprocal, relu, rsqrt, sigmoid, silu, sin, sinh,
    softplus, sqrt, square, sub, swiglu, tan, tanh,
};
pub use pool::{
    InterpolateMode, PoolOptions, adaptive_avg_pool2d, avg_pool1d, avg_pool2d, interpolate, max_pool1d,
    max_pool2d,
};
pub use products::{
    addbmm, addmm, addmv, addr, baddbmm, bmm, chain_matmul, dot, einsum, linalg_vecdot, linear, linear_add,
    matmul, mm, mv, outer,
};
pub use reduce::{amax, amin, cumprod, cumsum, max, mean, mean_all, min, norm, prod, std, sum, sum_all, var};
pub use rope::{RopePairs, rope};
pub use shape::{cat, stack, where_cond};
pub use softmax::{log_softmax, logsumexp, softmax};
