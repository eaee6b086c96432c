//! Functions over candle tensors that ask the region for their dtype, compute, and have a correct backward.

mod activation;
mod addmm;
mod arithmetic;
mod attention;
pub(crate) mod batch_norm;
mod bias;
mod broadcast;
mod conv;
mod conv_transpose;
mod correlation;
mod dropout;
mod einsum;
mod elementwise;
mod embedding;
pub(crate) mod empty;
mod extremum;
mod index;
mod interpolate;
mod join;
pub(crate) mod linear;
mod loss;
mod matmul;
pub(crate) mod norm;
mod pointwise;
mod pool;
mod prelu;
mod product;
pub(crate) mod reduce;
mod resample;
mod rope;
mod scan;
pub(crate) mod size;
mod softmax;
pub(crate) mod total;
mod whole;

pub use activation::{
    elu, gelu, gelu_tanh, hardsigmoid, hardswish, hardtanh, leaky_relu, mish, relu, sigmoid, silu, softplus,
    swiglu, tanh,
};
pub use addmm::{addbmm, addmm, addmv, addr, baddbmm};
pub use arithmetic::{add, add_scalar, div, div_scalar, mul, mul_scalar, sub};
pub use attention::{AttentionDropout, AttentionMask, AttentionOptions, scaled_dot_product_attention};
pub use batch_norm::{BatchNormOutput, batch_norm_eval, batch_norm_train};
pub use conv::{ConvOptions, conv1d, conv2d};
pub use conv_transpose::{ConvTransposeOptions, conv_transpose1d, conv_transpose2d};
pub use dropout::{DropoutSeed, dropout};
pub use einsum::einsum;
pub use embedding::{embedding, embedding_with_padding};
pub use extremum::{amax, amin, max, min};
pub use interpolate::{InterpolateMode, interpolate};
pub use join::{cat, stack, where_cond};
pub use linear::linear;
pub use loss::{
    BinaryCrossEntropy, CrossEntropy, KlTarget, Reduction, binary_cross_entropy,
    binary_cross_entropy_with_logits, cross_entropy, huber_loss, kl_div, l1_loss, mse_loss, nll_loss,
    smooth_l1_loss,
};
pub use matmul::{bmm, chain_matmul, dot, linalg_vecdot, matmul, mm, mv, outer};
pub use norm::{group_norm, layer_norm, rms_norm};
pub use pointwise::{
    abs, acos, asin, atan, clamp, cos, cosh, erf, erfinv, exp, expm1, log, log1p, log2, log10, maximum,
    minimum, neg, pow, powf, reciprocal, rsqrt, sin, sinh, sqrt, square, tan,
};
pub use pool::{PoolOptions, adaptive_avg_pool2d, avg_pool1d, avg_pool2d, max_pool1d, max_pool2d};
pub use prelu::prelu;
pub use reduce::{cumprod, cumsum, mean, mean_all, norm, prod, std, sum, sum_all, var};
pub use rope::{RopePairs, rope};
pub use softmax::{log_softmax, logsumexp, softmax};
