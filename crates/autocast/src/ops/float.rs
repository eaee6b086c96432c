//! What ops on real numbers ask of their inputs.

use candle_core::{DType, Tensor};

use crate::prepare::{cast_inputs, promote_types};
use crate::{Error, Result};

/// The dtypes that ops on real numbers work in.
const FLOATS: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];

/// `inputs` in the dtypes that the region's rule for `op` gives them; each must be a float.
pub(super) fn float_inputs<const N: usize>(op: &str, inputs: [&Tensor; N]) -> Result<[Tensor; N]> {
    let inputs = cast_inputs(op, inputs)?;
    for input in &inputs {
        check_float(op, input)?;
    }
    Ok(inputs)
}

/// An error unless `x` is of a dtype that has arithmetic on real numbers.
pub(super) fn check_float(op: &str, x: &Tensor) -> Result<()> {
    match FLOATS.contains(&x.dtype()) {
        true => Ok(()),
        false => Err(Error::dtype(op, x.dtype(), &FLOATS)),
    }
}

/// The dtype that all of `inputs` promote to.
pub(super) fn promoted(inputs: &[&Tensor]) -> Result<DType> {
    let dtypes = inputs.iter().map(|t| t.dtype());
    let mut all = dtypes.clone();
    let first = all.next().unwrap_or(DType::F32);
    all.try_fold(first, promote_types)
}
