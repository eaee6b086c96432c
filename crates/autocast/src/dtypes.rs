//! Dtypes by themselves: in which one sums are accumulated, to which one two promote, which an op refuses, and the cast off
//! the graph. Which dtype an op runs in is for [`crate::table`] and [`crate::region`].

use candle_core::{DType, Tensor};

use crate::{Error, Result};

/// The dtype in which sums over `dtype` are accumulated: f64 for f64, f32 for every smaller float, and integers as they
/// are.
pub(crate) fn accumulation_dtype(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        float if float.is_float() => DType::F32,
        integer => integer,
    }
}

/// `tensor` in another dtype, off the graph, rounded once. candle's own cast of an f64 to 16 bits rounds twice.
///
/// # Errors
///
/// When the device has no memory left.
pub(crate) fn rounded(tensor: &Tensor, dtype: DType) -> Result<Tensor> {
    let plain = tensor.detach();
    if plain.dtype() == dtype {
        return Ok(plain);
    }
    Ok(match plain.elem_count() {
        // candle's kernels refuse nothing on a GPU.
        0 => Tensor::zeros(plain.shape(), dtype, plain.device())?,
        _ => backends::bridge::cast(&plain, dtype)?,
    })
}

/// The dtypes that ops on real numbers work in.
const FLOATS: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];

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

/// The dtype of an op on `a` and `b`: tensors without dimensions count only where they are of a higher kind (a float
/// among integers).
///
/// # Source
///
/// `torch.result_type`.
pub(crate) fn result_type(op: &str, a: &Tensor, b: &Tensor) -> Result<DType> {
    let (with, without) = match (a.rank(), b.rank()) {
        (0, 0) => return promote_types(op, a.dtype(), b.dtype()),
        (0, _) => (b, a),
        (_, 0) => (a, b),
        _ => return promote_types(op, a.dtype(), b.dtype()),
    };
    match with.dtype().is_int() && without.dtype().is_float() {
        true => Ok(without.dtype()),
        false => Ok(with.dtype()),
    }
}

/// Tensors of a list, as errors name them.
pub(crate) fn unnamed(tensors: &[Tensor]) -> impl Iterator<Item = (&str, &Tensor)> {
    std::iter::once("the first tensor").chain(std::iter::repeat("a tensor")).zip(tensors)
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
