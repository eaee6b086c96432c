//! The same for candle's tensors on a GPU. What is returned is part of no graph.

use candle_core::{DType, Shape, Tensor};

use super::Taps;
use crate::bridge::{Call, candle, run_one};
use crate::buffer::Why;
use crate::{Error, Result};

const OP: &str = "resample";

/// `x`, contiguous and of `(outer, taps.inputs(), inner)`, mapped to `(outer, taps.outputs(), inner)` in `dtype`.
///
/// # Errors
///
/// [`Error::Operand`] for another shape, and [`Error::Device`].
pub fn resampled(x: &Tensor, taps: &Taps, dtype: DType) -> Result<Call<Tensor>> {
    if !x.device().is_cuda() {
        return Ok(Call::Composed(Why::Device));
    }
    let (outer, inner) = match *x.dims() {
        [outer, inputs, inner] if inputs == taps.inputs() => (outer, inner),
        _ => {
            let (expected, got) = (format!("(outer, {}, inner)", taps.inputs()), format!("{:?}", x.dims()));
            return Err(Error::Operand { op: OP, argument: "x", expected, got });
        }
    };
    let words = taps.table();
    let Some(words) = words.filter(|_| outer * inner * taps.outputs() > 0) else {
        return Ok(Call::Composed(Why::Shape("the taps")));
    };
    let table = Tensor::from_vec(words.clone(), words.len(), x.device()).map_err(candle(OP))?;
    let shape = Shape::from((outer, taps.outputs(), inner));
    run_one(OP, &[x, &table], (shape, dtype), |ins, out| {
        #[cfg(feature = "cuda")]
        return super::cuda::resample(&ins[0], inner, taps, &ins[1], out);
        #[cfg(not(feature = "cuda"))]
        {
            let _ = (ins, out);
            Ok(crate::buffer::Ran::Composed(Why::Device))
        }
    })
}
