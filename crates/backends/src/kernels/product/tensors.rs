//! The same for candle's tensors. What is returned is part of no graph.

use candle_core::{DType, Shape, Tensor};

use super::{Added, OP, product, product_onto, product_plus};
use crate::Result;
use crate::bridge::{Call, candle, in_rows, run_one, update};
use crate::buffer::Ran;

/// `a · b` in `dtype`, for matrices or stacks of them, read where they lie unless that is mostly gaps.
///
/// # Errors
///
/// As [`product`].
pub fn product_of(a: &Tensor, b: &Tensor, dtype: DType) -> Result<Call<Tensor>> {
    let (a, b, shape) = (dense(a)?, dense(b)?, shape_of(a, b));
    run_one(OP, &[&a, &b], (shape, dtype), |ins, out| product(&ins[0], &ins[1], out))
}

/// `a · b` with `row` added to each row, and `matrix`, which has the product's shape, in their dtype. One of them is given.
///
/// # Errors
///
/// As [`product_plus`].
pub fn product_plus_of(
    a: &Tensor,
    b: &Tensor,
    row: Option<&Tensor>,
    matrix: Option<&Tensor>,
) -> Result<Call<Tensor>> {
    let flat = |x: &Tensor| in_rows(OP, x, x.elem_count());
    let row = row.map(flat).transpose()?;
    let matrix = matrix.map(|matrix| matrix.contiguous().map_err(candle(OP))).transpose()?;
    let dtype = row.as_ref().or(matrix.as_ref()).map_or(a.dtype(), Tensor::dtype);
    let given: Vec<&Tensor> = [a, b].into_iter().chain(&row).chain(&matrix).collect();
    run_one(OP, &given, (shape_of(a, b), dtype), |ins, out| {
        let mut added = ins[2..].iter();
        let row = row.as_ref().and_then(|_| added.next());
        product_plus(&ins[0], &ins[1], Added { row, matrix: added.next() }, out)
    })
}

/// Adds `a · b` to `target`, in place, and tells whether a kernel did.
///
/// # Errors
///
/// As [`product_onto`], and [`Error::Operand`](crate::Error::Operand) where `a` or `b` shares the target's storage.
pub fn product_onto_of(target: &Tensor, a: &Tensor, b: &Tensor) -> Result<Ran> {
    update(OP, target, &[a, b], |ins, out| product_onto(&ins[0], &ins[1], out))
}

fn shape_of(a: &Tensor, b: &Tensor) -> Shape {
    let mut dims = a.dims().to_vec();
    if let (Some(last), Some(columns)) = (dims.last_mut(), b.dims().last()) {
        *last = *columns;
    }
    Shape::from(dims)
}

/// The tensor, or a copy where more than half of the memory between its first and its last element is not its own.
fn dense(x: &Tensor) -> Result<Tensor> {
    let steps = x.dims().iter().zip(x.stride()).map(|(&d, &s)| d.saturating_sub(1).saturating_mul(s));
    let span = steps.fold(0, usize::saturating_add);
    let mostly_gaps = span / 2 > x.elem_count() && x.device().is_cpu();
    if mostly_gaps { x.contiguous().map_err(candle(OP)) } else { Ok(x.clone()) }
}
