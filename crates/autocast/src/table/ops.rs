//! Every op that the tables know, by PyTorch's name, under the way in which its inputs' dtypes combine once autocast has
//! cast them. This part is the same on every device; which op is cast to what is in [`super::gpu`] and [`super::cpu`].

use super::signature::Signature::{self, *};

/// All known ops. An op stands here exactly once.
pub(super) const OPS: &[(Signature, &str)] = &[
    // Matrix products, convolutions, attention, recurrent cells.
    (
        Same,
        "linear matmul mm bmm mv addmm addmv addbmm baddbmm _addmm_activation chain_matmul linalg_multi_dot \
         linalg_vecdot einsum dot vdot tensordot bilinear conv1d conv2d conv3d conv_tbc conv_transpose1d \
         conv_transpose2d conv_transpose3d convolution _convolution cudnn_convolution \
         cudnn_convolution_transpose prelu scaled_dot_product_attention _scaled_dot_product_flash_attention \
         _native_multi_head_attention lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell \
         rnn_relu_cell _thnn_fused_lstm_cell _thnn_fused_gru_cell mkldnn_rnn_layer",
    ),
    // One tensor in, its dtype out; where there are more, they must agree.
    (
        Same,
        "neg negative abs absolute sign sgn positive floor ceil round trunc fix frac square relu relu6 gelu \
         silu swish mish elu selu celu leaky_relu rrelu hardtanh hardsigmoid hardswish hardshrink softshrink \
         tanhshrink softsign logsigmoid log_sigmoid threshold glu lerp heaviside nan_to_num renorm pdist \
         cdist cross linalg_cross trace polar complex view_as_complex view_as_real real imag conj angle amax \
         amin max min aminmax median nanmedian mode kthvalue topk sort msort cummax cummin logcumsumexp mean \
         nanmean std var std_mean var_mean logsumexp diff quantile nanquantile normalize local_response_norm \
         binary_cross_entropy bce avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d lp_pool1d \
         lp_pool2d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d \
         adaptive_max_pool2d adaptive_max_pool3d fractional_max_pool2d fractional_max_pool3d interpolate \
         upsample upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d \
         _upsample_nearest_exact2d _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d \
         _upsample_bilinear2d_aa upsample_trilinear3d upsample_bicubic2d _upsample_bicubic2d_aa grid_sampler \
         grid_sample grid_sampler_2d grid_sampler_3d _grid_sampler_2d_cpu_fallback affine_grid \
         reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d \
         replication_pad3d constant_pad_nd pad fake_quantize_per_tensor_affine dropout alpha_dropout \
         feature_dropout dropout1d dropout2d dropout3d native_dropout transpose t permute reshape view \
         view_as flatten unflatten squeeze unsqueeze expand expand_as broadcast_to repeat repeat_interleave \
         tile contiguous clone detach narrow select slice chunk split unbind flip roll rot90 movedim swapaxes \
         tril triu diag diagonal diag_embed unfold fold im2col col2im pixel_shuffle pixel_unshuffle \
         channel_shuffle zeros_like ones_like full_like empty_like rand_like randn_like",
    ),
    // As above with integer indices, classes or masks beside.
    (
        SameFloats,
        "embedding embedding_bag gather index index_select index_add index_copy index_put scatter scatter_add \
         scatter_reduce take take_along_dim masked_select masked_scatter max_unpool2d max_unpool3d nll_loss \
         nll_loss2d nll_loss_nd multi_margin_loss multilabel_margin_loss multilabel_margin_loss_forward \
         ctc_loss",
    ),
    // Ordinary promotion.
    (
        Promote,
        "add sub subtract rsub mul multiply floor_divide fmod remainder maximum minimum fmax fmin clamp clip \
         pow addcmul addcdiv addr outer ger kron dist where cat concat concatenate stack hstack vstack dstack \
         column_stack pairwise_distance cosine_similarity cross_entropy cross_entropy_loss l1_loss mse_loss \
         smooth_l1_loss huber_loss kl_div hinge_embedding_loss margin_ranking_loss cosine_embedding_loss \
         poisson_nll_loss gaussian_nll_loss triplet_margin_loss triplet_margin_with_distance_loss \
         multilabel_soft_margin_loss binary_cross_entropy_with_logits bce_with_logits",
    ),
    // Ordinary promotion; integers become f32.
    (
        PromoteFloat,
        "div divide true_divide atan2 arctan2 hypot xlogy copysign logaddexp logaddexp2 sqrt rsqrt reciprocal \
         exp exp2 expm1 log log2 log10 log1p logit sin cos tan asin acos atan sinh cosh tanh asinh acosh \
         atanh sinc erf erfc erfinv lgamma digamma sigmoid softplus softmax softmin log_softmax \
         gumbel_softmax norm frobenius_norm nuclear_norm linalg_norm linalg_vector_norm linalg_matrix_norm",
    ),
    // Sums, which PyTorch widens to i64 for integers.
    (Accumulate, "sum nansum prod cumsum cumprod"),
    // The first input decides.
    (First, "masked_fill index_fill rms_norm soft_margin_loss rope"),
    // A norm's scale and shift may be f32 beside a 16-bit input.
    (
        Affine,
        "layer_norm native_layer_norm group_norm native_group_norm batch_norm native_batch_norm instance_norm",
    ),
    // No 16-bit arithmetic exists.
    (
        Wide,
        "cholesky cholesky_inverse cholesky_solve inverse pinverse lu_solve _lu_with_info orgqr ormqr geqrf \
         qr svd triangular_solve linalg_cond linalg_solve linalg_cholesky linalg_cholesky_ex linalg_svd \
         linalg_svdvals linalg_eig linalg_eigh linalg_eigvals linalg_eigvalsh linalg_inv linalg_inv_ex \
         linalg_householder_product linalg_tensorinv linalg_tensorsolve linalg_qr linalg_lstsq \
         linalg_matrix_rank",
    ),
    // Complex results are named by the dtype of their parts.
    (
        Same,
        "fft_fft fft_ifft fft_fft2 fft_ifft2 fft_fftn fft_ifftn fft_rfft fft_irfft fft_rfft2 fft_irfft2 \
         fft_rfftn fft_irfftn fft_hfft fft_ihfft stft",
    ),
    // A truth value, u8 in candle.
    (
        Bool,
        "eq ne lt le gt ge not_equal less less_equal greater greater_equal equal isclose isnan isinf isfinite \
         signbit all any logical_and logical_or logical_not logical_xor",
    ),
    // A position or a count.
    (Index, "argmax argmin argsort argwhere nonzero count_nonzero one_hot searchsorted bucketize"),
];
