//! The kernels, one folder each.

pub mod adamw;
pub mod add;
pub mod attention;
// Its doors are those of candle's tensors.
#[cfg(feature = "candle")]
pub mod batch_norm;
pub mod binary;
pub mod cast;
pub mod choose;
pub mod convolution;
pub mod copy_if_applied;
pub mod cross_entropy;
pub mod difference_loss;
pub mod dropout;
pub mod finite;
pub mod group_norm;
pub mod head_rows;
pub mod lion;
pub mod lookup;
pub mod loss_scale;
pub mod max_pool;
pub mod norm;
pub mod pointwise;
pub mod product;
pub mod relayout;
pub mod resample;
pub mod rope;
pub mod row_sums;
pub mod scale_by;
pub mod sgd;
pub mod softmax;
pub mod step;
pub mod sum;
