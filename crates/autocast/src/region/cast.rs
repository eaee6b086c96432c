//! What every op does first: bring its inputs to the dtype that the active region wants. Which dtype that is comes from
//! [`crate::table`], kept casts from the cache.

use candle_core::{DType, Tensor};

use super::cache::CastCache;
use super::mode::GradMode;
use super::settings::Settings;
use super::thread;
use crate::Result;
use crate::dtypes::{accumulation_dtype, check_float, promote_types, rounded};
use crate::graph::{Backward, Op, Value, record};

/// Applies the active region's rule for `op` to `inputs`.
///
/// Outside a region, in a disabled one, and for tensors that a region does not touch (integers, f64, another device)
/// the inputs come back unchanged. Inside [`no_grad`](crate::no_grad) they come back detached.
///
/// The crate's own ops begin with this call. A user's op takes part in autocast by doing the same, under a name that was
/// registered with [`OpTable::with_op`](crate::OpTable::with_op).
///
/// # Errors
///
/// [`UnknownOp`](crate::Error::UnknownOp) if the region's table does not have `op`, [`Banned`](crate::Error::Banned) if it
/// forbids it.
pub fn cast_inputs<const N: usize>(op: &str, inputs: [&Tensor; N]) -> Result<[Tensor; N]> {
    let cast = cast_slice(op, &inputs)?;
    Ok(cast.try_into().expect("as many tensors come out as went in"))
}

/// Inputs as they are, and the dtypes that the active region wants them in: for an op whose kernel reads them as they are
/// and computes as if they had been cast.
pub(crate) fn uncast(op: &str, inputs: &[&Tensor]) -> Result<Vec<(Tensor, DType)>> {
    let (region, grad_mode) = thread::current();
    let dtypes = match &region {
        None => inputs.iter().map(|t| t.dtype()).collect(),
        Some(region) => region.dtypes(op, inputs)?,
    };
    Ok(inputs.iter().zip(dtypes).map(|(&tensor, dtype)| (recorded(tensor, grad_mode), dtype)).collect())
}

/// [`cast_inputs`] for a number of inputs known only at run time.
///
/// # Errors
///
/// As [`cast_inputs`].
pub fn cast_slice(op: &str, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
    let (region, grad_mode) = thread::current();
    let Some(region) = region else {
        return Ok(inputs.iter().map(|&tensor| recorded(tensor, grad_mode)).collect());
    };
    let dtypes = region.dtypes(op, inputs)?;
    if dtypes.contains(&region.fast_dtype) {
        thread::count_fast_op();
    }
    inputs.iter().zip(dtypes).map(|(&tensor, dtype)| cast(tensor, dtype, grad_mode, &region)).collect()
}

fn cast(tensor: &Tensor, dtype: DType, grad_mode: GradMode, region: &Settings) -> Result<Tensor> {
    if tensor.dtype() == dtype {
        return Ok(recorded(tensor, grad_mode));
    }
    let cast = || Ok(retyped(&recorded(tensor, grad_mode), dtype)?);
    if dtype == region.fast_dtype && CastCache::takes(tensor) {
        thread::with_cache(|cache| cache.get_or_cast(tensor, dtype, grad_mode, region.cache, cast))
    } else {
        cast()
    }
}

/// `tensor` in another dtype, rounded once and with a gradient.
///
/// # Errors
///
/// When the device has no memory left.
pub fn cast_to(tensor: &Tensor, dtype: DType) -> Result<Tensor> {
    if tensor.dtype() == dtype {
        return Ok(tensor.clone());
    }
    let value = rounded(tensor, dtype)?;
    if !(dtype.is_float() && tensor.dtype().is_float() && tensor.track_op()) {
        return Ok(value);
    }
    record(Cast { from: tensor.dtype() }, &[tensor], Value::fresh(value))
}

struct Cast {
    from: DType,
}

impl Op for Cast {
    fn name(&self) -> &'static str {
        "to_dtype"
    }

    fn reads_narrow(&self) -> bool {
        true
    }

    /// What is widened holds no other numbers: that is left to whoever cannot read it as it is.
    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let grad = cx.grad();
        let widened = grad.dtype().size_in_bytes() == 2 && self.from == DType::F32;
        Ok(vec![Some(if widened { grad.clone() } else { cast_to(grad, self.from)? })])
    }
}

/// [`cast_to`] with candle's error.
pub(crate) fn retyped(tensor: &Tensor, dtype: DType) -> candle_core::Result<Tensor> {
    Ok(cast_to(tensor, dtype)?)
}

/// The tensor as an op may use it: without its history where no graph is recorded.
pub(crate) fn recorded(tensor: &Tensor, grad_mode: GradMode) -> Tensor {
    match grad_mode {
        GradMode::Record => tensor.clone(),
        GradMode::Off => tensor.detach(),
    }
}

/// `tensor` in its [`accumulation_dtype`].
pub(crate) fn widen(tensor: &Tensor) -> Result<Tensor> {
    Ok(retyped(tensor, accumulation_dtype(tensor.dtype()))?)
}

/// [`cast_inputs`] for an op on real numbers: each of them, by its name, must be a float.
pub(crate) fn float_inputs<const N: usize>(op: &str, inputs: [(&str, &Tensor); N]) -> Result<[Tensor; N]> {
    let cast = cast_inputs(op, inputs.map(|(_, input)| input))?;
    for ((name, _), input) in inputs.iter().zip(&cast) {
        check_float(op, name, input)?;
    }
    Ok(cast)
}

/// [`cast_slice`], and each of them in the dtype that all promote to.
pub(crate) fn promoted_slice(op: &str, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
    let inputs = cast_slice(op, inputs)?;
    let dtypes = inputs.iter().map(Tensor::dtype).collect::<Vec<_>>();
    let Some((&first, rest)) = dtypes.split_first() else { return Ok(inputs) };
    let dtype = rest.iter().try_fold(first, |a, &b| promote_types(op, a, b))?;
    Ok(inputs.iter().map(|t| retyped(t, dtype)).collect::<candle_core::Result<_>>()?)
}
