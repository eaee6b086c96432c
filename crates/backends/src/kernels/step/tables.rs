//! The order in which a device takes parameters and chunks of them: each type of weights has a kernel of its own.

use super::Parameter;
use candle_core::{DType, Tensor};

/// Elements per block: `CHUNK` in `multi_tensor.cuh`.
const CHUNK: usize = 8192;
/// The types that weights may have, in the order in which their parameters are put into the tables.
pub(super) const WEIGHTS: [(DType, &str); 4] =
    [(DType::F32, "f32"), (DType::F16, "f16"), (DType::BF16, "bf16"), (DType::F64, "f64")];

/// The parameters, those of one type beside each other: each type has a kernel of its own.
pub(super) fn by_weight_type(parameters: &[Parameter<'_>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..parameters.len()).collect();
    order.sort_by_key(|&at| rank(parameters[at].weights.dtype()));
    order
}

fn rank(dtype: DType) -> Option<usize> {
    WEIGHTS.iter().position(|&(weights, _)| weights == dtype)
}

/// `Chunk`s in order.
pub(super) fn chunk_table(grads: &[(usize, &Tensor)]) -> Vec<u64> {
    let of = |(tensor, (_, grad)): (usize, &(usize, &Tensor))| {
        let n = grad.elem_count().div_ceil(CHUNK);
        (0..n).map(move |index| tensor as u64 | (index as u64) << 32)
    };
    grads.iter().enumerate().flat_map(of).collect()
}

/// For each type of weights, where its chunks end.
pub(super) fn chunk_ends(parameters: &[Parameter<'_>], order: &[usize]) -> [usize; 4] {
    WEIGHTS.map(|(last, _)| {
        let up_to = |&&at: &&usize| rank(parameters[at].weights.dtype()) <= rank(last);
        order.iter().filter(up_to).map(|&at| parameters[at].weights.elem_count().div_ceil(CHUNK)).sum()
    })
}
