//! How images lie in memory. What is shaped `(N, C, …)` may lie with its channels last, as a view of a value of `(N, …, C)`: the graph
//! knows views, so that gradients lie the same way, and nothing is copied in between.

use backends::kernels::relayout::lies_last;
use candle_core::Tensor;

/// `x` as `(N, …, C)`, if it is `(N, C, …)` whose channels lie last and not second.
pub(crate) fn as_it_lies(x: &Tensor) -> candle_core::Result<Option<Tensor>> {
    if !lies_last(x) {
        return Ok(None);
    }
    channels_last(x).map(Some)
}

/// `(N, C, …)` of rank 3 or 4 as `(N, …, C)`.
pub(crate) fn channels_last(x: &Tensor) -> candle_core::Result<Tensor> {
    if x.rank() == 3 { x.permute((0, 2, 1)) } else { x.permute((0, 2, 3, 1)) }
}

/// `(N, …, C)` of rank 3 or 4 as `(N, C, …)`.
pub(crate) fn channels_second(x: &Tensor) -> candle_core::Result<Tensor> {
    if x.rank() == 3 { x.permute((0, 2, 1)) } else { x.permute((0, 3, 1, 2)) }
}
