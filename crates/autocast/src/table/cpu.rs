//! PyTorch's autocast lists for CPUs. What is not here passes through.

use super::CastRule::{self, *};
use super::signature::Signature;

/// # Source
///
/// `TORCH_LIBRARY_IMPL(aten, AutocastCPU, …)` in PyTorch's `aten/src/ATen/autocast_mode.cpp`.
pub(super) const RULES: &[(CastRule, &str)] = &[
    (
        LowerPrecision,
        "linear matmul mm bmm addmm addbmm baddbmm _addmm_activation linalg_vecdot chain_matmul \
         linalg_multi_dot tensordot einsum conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d \
         conv_transpose3d _convolution mkldnn_rnn_layer prelu scaled_dot_product_attention \
         _native_multi_head_attention",
    ),
    (
        Fp32,
        "mse_loss l1_loss smooth_l1_loss huber_loss nll_loss nll_loss2d nll_loss_nd cross_entropy \
         cross_entropy_loss kl_div binary_cross_entropy bce binary_cross_entropy_with_logits bce_with_logits \
         cosine_embedding_loss ctc_loss hinge_embedding_loss margin_ranking_loss multi_margin_loss \
         multilabel_margin_loss multilabel_margin_loss_forward poisson_nll_loss soft_margin_loss \
         triplet_margin_loss avg_pool3d max_pool3d adaptive_avg_pool3d adaptive_max_pool3d \
         fractional_max_pool2d fractional_max_pool3d max_unpool2d max_unpool3d reflection_pad1d \
         reflection_pad2d replication_pad1d replication_pad2d replication_pad3d grid_sampler grid_sample \
         grid_sampler_2d grid_sampler_3d _grid_sampler_2d_cpu_fallback polar view_as_complex prod quantile \
         nanquantile trace cdist fake_quantize_per_tensor_affine fft_fft fft_ifft fft_fft2 fft_ifft2 fft_fftn \
         fft_ifftn fft_rfft fft_irfft fft_rfft2 fft_irfft2 fft_rfftn fft_irfftn fft_hfft fft_ihfft stft \
         cholesky cholesky_inverse cholesky_solve inverse pinverse lu_solve _lu_with_info orgqr ormqr geqrf \
         qr svd triangular_solve linalg_cond linalg_solve linalg_cholesky linalg_cholesky_ex linalg_svd \
         linalg_svdvals linalg_eig linalg_eigh linalg_eigvals linalg_eigvalsh linalg_inv linalg_inv_ex \
         linalg_householder_product linalg_tensorinv linalg_tensorsolve linalg_qr linalg_lstsq \
         linalg_matrix_rank",
    ),
    (Promote, "cat concat concatenate stack index_copy"),
];

/// Where the CPU combines dtypes differently.
///
/// The products are compositions: they compare their inputs first, and the listed op inside casts. A recurrent layer's
/// inner products are cast, but its gates combine with the state by ordinary promotion.
pub(super) const SIGNATURES: &[(Signature, &str)] = &[
    (Signature::SameBeforeCast, "chain_matmul linalg_multi_dot tensordot"),
    (Signature::Promote, "lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell"),
];
