//! The same for tensors on a GPU.

use candle_core::{DType, Tensor};

use crate::bridge::{self, Call};
use crate::buffer::{Ran, Why};
use crate::{Error, Result};

const OP: &str = "row_sums";

/// The rows of `x`, `[ids, width]`, added up by their `ids` in i64: `[rows, width]` in f32 (f64 for f64), part of no graph.
///
/// # Errors
///
/// [`Error::LengthMismatch`] where `x` has not a row for each id, [`Error::Device`].
pub fn row_sums_of(ids: &Tensor, x: &Tensor, rows: usize) -> Result<Call<Tensor>> {
    let failed = |error: candle_core::Error| Error::Device { op: OP.to_string(), message: error.to_string() };
    let (count, width) = x.dims2().map_err(failed)?;
    if ids.elem_count() != count {
        return Err(Error::LengthMismatch {
            op: OP,
            argument: "ids",
            expected: count,
            got: ids.elem_count(),
        });
    }
    if !x.device().is_cuda() || count == 0 || rows * width == 0 {
        return Ok(Call::Composed(Why::Device));
    }
    let (ids, x) = (bridge::in_rows(OP, ids, count)?, bridge::in_rows(OP, x, count * width)?);
    let wide = if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let outputs = [((rows, width).into(), wide), (rows.into(), DType::U32), (count.into(), DType::U32)];
    let call = bridge::run(OP, &[&ids, &x], &outputs, |ins, outs| match ins {
        #[cfg(feature = "cuda")]
        [ids, x] => super::cuda::row_sums(ids, x, outs, rows),
        _ => {
            let _ = outs;
            Ok(Ran::Composed(Why::Device))
        }
    })?;
    Ok(match call {
        Call::Ran(mut made) => Call::Ran(made.swap_remove(0)),
        Call::Composed(why) => Call::Composed(why),
    })
}
