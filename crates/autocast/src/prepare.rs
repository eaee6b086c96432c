//! What every op does first: bring its inputs to the dtype that the active region wants. Which dtype that is comes from
//! [`crate::table`], the casts themselves from [`crate::cache`].

use candle_core::{DType, Tensor};

use crate::{
    Error, Result,
    cache::CastCache,
    graph::{Backward, Op, Value, record},
    region::{self, Active, GradMode},
    table::Input,
};

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
/// [`Error::UnknownOp`] if the region's table does not have `op`, [`Error::Banned`] if it forbids it.
pub fn cast_inputs<const N: usize>(op: &str, inputs: [&Tensor; N]) -> Result<[Tensor; N]> {
    let cast = cast_slice(op, &inputs)?;
    Ok(cast.try_into().expect("as many tensors come out as went in"))
}

/// Inputs as they are, and the dtypes that the active region wants them in: for an op whose kernel reads them as they are
/// and computes as if they had been cast.
pub(crate) fn uncast(op: &str, inputs: &[&Tensor]) -> Result<Vec<(Tensor, DType)>> {
    let (region, grad_mode) = region::current();
    let dtypes: Vec<DType> = match &region {
        None => inputs.iter().map(|t| t.dtype()).collect(),
        Some(region) => {
            let seen: Vec<Input> = inputs
                .iter()
                .map(|t| Input { dtype: t.dtype(), on_device: region.covers(t.device()) })
                .collect();
            region.table().cast_dtypes(op, region.fast_dtype(), &seen)?
        }
    };
    Ok(inputs.iter().zip(dtypes).map(|(&tensor, dtype)| (recorded(tensor, grad_mode), dtype)).collect())
}

/// [`cast_inputs`] for a number of inputs known only at run time.
///
/// # Errors
///
/// As [`cast_inputs`].
pub fn cast_slice(op: &str, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
    let (region, grad_mode) = region::current();
    let Some(region) = region else {
        return Ok(inputs.iter().map(|&tensor| recorded(tensor, grad_mode)).collect());
    };
    let seen: Vec<Input> =
        inputs.iter().map(|t| Input { dtype: t.dtype(), on_device: region.covers(t.device()) }).collect();
    let dtypes = region.table().cast_dtypes(op, region.fast_dtype(), &seen)?;
    if dtypes.contains(&region.fast_dtype()) {
        region::count_fast_op();
    }
    inputs.iter().zip(dtypes).map(|(&tensor, dtype)| cast(tensor, dtype, grad_mode, &region)).collect()
}

fn cast(tensor: &Tensor, dtype: DType, grad_mode: GradMode, region: &Active) -> Result<Tensor> {
    if tensor.dtype() == dtype {
        return Ok(recorded(tensor, grad_mode));
    }
    let cast = || Ok(retyped(&recorded(tensor, grad_mode), dtype)?);
    if dtype == region.fast_dtype() && CastCache::takes(tensor) {
        region::with_cache(|cache| cache.get_or_cast(tensor, dtype, grad_mode, region.cache_policy(), cast))
    } else {
        cast()
    }
}

/// `tensor` in another dtype, rounded once and with a gradient. candle's own cast of an f64 to 16 bits rounds twice.
///
/// # Errors
///
/// When the device has no memory left.
pub fn cast_to(tensor: &Tensor, dtype: DType) -> Result<Tensor> {
    if tensor.dtype() == dtype {
        return Ok(tensor.clone());
    }
    let plain = tensor.detach();
    let value = match tensor.elem_count() {
        // candle's kernels refuse nothing on a GPU.
        0 => Tensor::zeros(tensor.shape(), dtype, tensor.device())?,
        _ => backends::bridge::cast(&plain, dtype)?,
    };
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

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(cast_to(cx.grad(), self.from)?)])
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

/// The dtype in which sums over `dtype` are accumulated: f64 for f64, f32 for every smaller float, and integers as they
/// are.
pub(crate) fn accumulation_dtype(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        float if float.is_float() => DType::F32,
        integer => integer,
    }
}

/// `tensor` in its [`accumulation_dtype`].
pub(crate) fn widen(tensor: &Tensor) -> Result<Tensor> {
    Ok(retyped(tensor, accumulation_dtype(tensor.dtype()))?)
}

/// The dtypes that ops on real numbers work in.
const FLOATS: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];

/// [`cast_inputs`] for an op on real numbers: each of them must be a float.
pub(crate) fn float_inputs<const N: usize>(op: &str, inputs: [&Tensor; N]) -> Result<[Tensor; N]> {
    let inputs = cast_inputs(op, inputs)?;
    for input in &inputs {
        check_float(op, "input", input)?;
    }
    Ok(inputs)
}

/// An error unless `x` is of a dtype that has arithmetic on real numbers.
pub(crate) fn check_float(op: &str, argument: &str, x: &Tensor) -> Result<()> {
    check_float_dtype(op, argument, x.dtype())
}

/// An error unless `dtype` has arithmetic on real numbers.
pub(crate) fn check_float_dtype(op: &str, argument: &str, dtype: DType) -> Result<()> {
    match FLOATS.contains(&dtype) {
        true => Ok(()),
        false => Err(Error::dtype(op, argument, dtype, &FLOATS)),
    }
}

/// An error if `tensor` waits for a gradient that `op` does not define.
pub(crate) fn check_constant(op: &str, argument: &str, tensor: &Tensor) -> Result<()> {
    match tensor.track_op() {
        true => Err(Error::argument(op, argument, "a tensor in a graph", "a constant: detach it")),
        false => Ok(()),
    }
}

/// [`cast_slice`], and each of them in the dtype that all promote to.
pub(crate) fn promoted_slice(op: &str, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
    let inputs = cast_slice(op, inputs)?;
    let dtypes = inputs.iter().map(Tensor::dtype).collect::<Vec<_>>();
    let Some((&first, rest)) = dtypes.split_first() else { return Ok(inputs) };
    let dtype = rest.iter().try_fold(first, |a, &b| promote_types(op, a, b))?;
    Ok(inputs.iter().map(|t| retyped(t, dtype)).collect::<candle_core::Result<_>>()?)
}

/// The dtype of `a ∘ b` where an op promotes as PyTorch does: the wider float; f32 for f16 with bf16; the float where
/// the other is an integer.
///
/// # Errors
///
/// [`Error::InvalidArgument`] for the pairs that PyTorch refuses too: 8-bit floats or u32 with anything of their kind.
///
/// # Source
///
/// `c10::promoteTypes`.
pub(crate) fn promote_types(op: &str, a: DType, b: DType) -> Result<DType> {
    use DType::{BF16, F16, F32, F64, I16, I32, I64, U8, U32};
    let pair = |x, y| (a, b) == (x, y) || (b, a) == (x, y);
    let has = |x| a == x || b == x;
    let wide = [F64, F32, BF16, F16];
    let ordinary = |d: DType| d.is_int() || wide.contains(&d);
    if a == b {
        return Ok(a);
    }
    if let Some(odd) = [a, b].into_iter().find(|&d| !ordinary(d)) {
        return Err(Error::dtype(op, "an input", odd, &FLOATS));
    }
    if pair(F16, BF16) {
        return Ok(F32);
    }
    if let Some(&float) = wide.iter().find(|&&d| has(d)) {
        return Ok(float);
    }
    if has(U32) {
        return Err(Error::dtype(op, "an input", U32, &[U8, I16, I32, I64, F16, BF16, F32, F64]));
    }
    let widest = [I64, I32, I16].into_iter().find(|&d| has(d));
    Ok(widest.expect("two different integers other than u32 include a signed one"))
}

/// The one dtype of all `inputs`, which come with their names.
///
/// # Errors
///
/// [`Error::InvalidArgument`] where one differs from the first, or there is none.
pub(crate) fn same_dtype<'a>(
    op: &str,
    inputs: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> Result<DType> {
    let mut inputs = inputs.into_iter().map(|(name, tensor)| (name, tensor.dtype()));
    let Some(first) = inputs.next() else {
        return Err(Error::argument(op, "inputs", "empty", "at least one tensor"));
    };
    match inputs.find(|(_, dtype)| *dtype != first.1) {
        Some(other) => Err(Error::dtypes_differ(op, other, first)),
        None => Ok(first.1),
    }
}
