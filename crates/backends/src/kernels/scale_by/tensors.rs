//! The same for candle's tensors. What is returned is part of no graph.

use super::{OP, scale_by};
use crate::Result;
use crate::bridge::{in_rows, run_one};
use candle_core::{DType, Tensor};

/// `x · factor` in `dtype`, of `x`'s shape. `None` where no kernel takes the call.
///
/// # Errors
///
/// As [`scale_by`].
pub fn scaled_by(x: &Tensor, factor: &Tensor, dtype: DType) -> Result<Option<Tensor>> {
    let x = in_rows(OP, x, x.elem_count())?;
    let output = (x.shape().clone(), dtype);
    Ok(run_one(OP, &[&x, factor], output, |ins, out| scale_by(&ins[0], &ins[1], out))?.ran())
}
