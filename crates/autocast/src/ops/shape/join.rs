//! Joining tensors: cat, stack and where_cond, with type promotion.

use candle_core::shape::Dim;
use candle_core::{DType, Tensor};

use super::broadcast::{broadcast_dims, sum_to};
use super::empty::without_gradient;
use super::size::check_size;
use crate::dtypes::result_type;
use crate::graph::{Keep, composed};
use crate::plain::choose;
use crate::region::promoted_slice;
use crate::{Error, Result};

/// The tensors one after another along an existing dimension.
///
/// # Errors
///
/// No tensor, shapes that differ elsewhere, dtypes that do not promote.
pub fn cat(tensors: &[&Tensor], dim: impl Dim) -> Result<Tensor> {
    let tensors = alike("cat", tensors)?;
    let first = &tensors[0];
    let dim = dim.to_index(first.shape(), "cat")?;
    let others = |t: &Tensor| [&t.dims()[..dim], &t.dims()[dim + 1..]].concat();
    for tensor in &tensors {
        if tensor.rank() != first.rank() || others(tensor) != others(first) {
            let expected = format!("{:?} as the first has, except in dimension {dim}", first.dims());
            return Err(Error::shape("cat", "a tensor", tensor.dims(), expected));
        }
    }
    let mut dims = first.dims().to_vec();
    dims[dim] = tensors.iter().fold(0, |sum: usize, t| sum.saturating_add(t.dims()[dim]));
    check_size("cat", &dims, first.dtype())?;
    Ok(Tensor::cat(&tensors, dim)?)
}

/// The tensors, all of one shape, along a new dimension.
///
/// # Errors
///
/// No tensor, shapes that differ, dtypes that do not promote.
pub fn stack(tensors: &[&Tensor], dim: impl Dim) -> Result<Tensor> {
    let tensors = alike("stack", tensors)?;
    let first = &tensors[0];
    if let Some(odd) = tensors.iter().find(|t| t.dims() != first.dims()) {
        return Err(Error::shape(
            "stack",
            "a tensor",
            odd.dims(),
            format!("{:?} as the first has", first.dims()),
        ));
    }
    let dim = dim.to_index_plus_one(first.shape(), "stack")?;
    check_size("stack", &[&[tensors.len()], first.dims()].concat(), first.dtype())?;
    Ok(Tensor::stack(&tensors, dim)?)
}

/// The tensors in the dtype that they promote to.
fn alike(op: &str, tensors: &[&Tensor]) -> Result<Vec<Tensor>> {
    if tensors.is_empty() {
        return Err(Error::argument(op, "tensors", "an empty list", "at least one tensor"));
    }
    promoted_slice(op, tensors)
}

/// `a` where `condition` is not 0, `b` elsewhere. All three broadcast.
///
/// # Errors
///
/// A condition that is not of integers, shapes that do not broadcast, dtypes that do not promote.
///
/// # Source
///
/// `torch.where`.
pub fn where_cond(condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    const OP: &str = "where";
    if ![DType::U8, DType::U32, DType::I64].contains(&condition.dtype()) {
        return Err(Error::dtype(OP, "condition", condition.dtype(), &[DType::U8, DType::U32, DType::I64]));
    }
    let [a, b] = crate::region::cast_inputs(OP, [a, b])?;
    let dtype = result_type(OP, &a, &b)?;
    let dims = broadcast_dims(OP, condition.dims(), &broadcast_dims(OP, a.dims(), b.dims())?)?;
    if dims.contains(&0) {
        return without_gradient(OP, &[&a, &b], Tensor::zeros(dims, dtype, a.device())?);
    }
    let condition = match condition.dtype() {
        DType::U8 => condition.clone(),
        _ => condition.ne(0u8)?,
    };
    let value = choose(&condition, &a.to_dtype(dtype)?, &b)?;
    composed(OP, [&a, &b], value, Keep::Nothing, move |grad, _, [a, b]| {
        let zero = Tensor::zeros((), grad.dtype(), grad.device())?;
        let (da, db) = (choose(&condition, grad, &zero)?, choose(&condition, &zero, grad)?);
        Ok([sum_to(&da, a.dims())?, sum_to(&db, b.dims())?])
    })
}
