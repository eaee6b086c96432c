//! PyTorch's autocast lists for GPUs. What is not here passes through.

use super::CastRule::{self, *};

/// # Source
///
/// `AT_FORALL_*` in PyTorch's `aten/src/ATen/autocast_mode.h`; `rms_norm` from the release that added it. Names that
/// PyTorch composes from listed ops (`cross_entropy`, `interpolate`, `square`, …) have the rule that the composition
/// amounts to.
pub(super) const RULES: &[(CastRule, &str)] = &[
    (
        LowerPrecision,
        "linear matmul mm bmm mv addmm addmv addr addbmm baddbmm _addmm_activation chain_matmul \
         linalg_multi_dot linalg_vecdot einsum conv1d conv2d conv3d conv_tbc conv_transpose1d \
         conv_transpose2d conv_transpose3d convolution _convolution cudnn_convolution \
         cudnn_convolution_transpose prelu scaled_dot_product_attention _scaled_dot_product_flash_attention \
         _native_multi_head_attention lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell \
         rnn_relu_cell _thnn_fused_lstm_cell _thnn_fused_gru_cell",
    ),
    (
        Fp32,
        "acos asin cosh sinh tan erfinv exp expm1 log log2 log10 log1p pow square reciprocal rsqrt softplus \
         layer_norm native_layer_norm rms_norm group_norm frobenius_norm nuclear_norm cosine_similarity \
         normalize local_response_norm pairwise_distance dist cdist pdist renorm logsumexp mse_loss l1_loss \
         smooth_l1_loss huber_loss nll_loss nll_loss2d nll_loss_nd cross_entropy cross_entropy_loss kl_div \
         binary_cross_entropy_with_logits bce_with_logits cosine_embedding_loss ctc_loss hinge_embedding_loss \
         margin_ranking_loss multi_margin_loss multilabel_margin_loss multilabel_margin_loss_forward \
         multilabel_soft_margin_loss poisson_nll_loss gaussian_nll_loss soft_margin_loss triplet_margin_loss \
         triplet_margin_with_distance_loss interpolate upsample upsample_nearest1d upsample_nearest2d \
         upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d \
         upsample_linear1d upsample_bilinear2d _upsample_bilinear2d_aa upsample_trilinear3d \
         upsample_bicubic2d _upsample_bicubic2d_aa",
    ),
    (
        Fp32SetOptDtype,
        "softmax softmin log_softmax gumbel_softmax sum prod cumsum cumprod norm linalg_norm \
         linalg_vector_norm linalg_matrix_norm",
    ),
    (
        Promote,
        "addcdiv addcmul atan2 arctan2 bilinear cross dot vdot grid_sampler grid_sample index_put tensordot \
         scatter_add",
    ),
    (Banned, "binary_cross_entropy bce"),
];
