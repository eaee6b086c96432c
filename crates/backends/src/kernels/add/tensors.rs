//! The same for candle's tensors.

use candle_core::{DType, Tensor};

use super::{Among, Sign, add, add_to_part, add_to_rows};
use crate::Result;
use crate::bridge::{self, Call};
use crate::buffer::{Ran, Why};

/// `a ± b` in `dtype` and the shape of `a`, part of no graph. `b` has that shape, or as many elements as a number of its last dimensions.
///
/// # Errors
///
/// As [`add`].
pub fn sum_of(a: &Tensor, b: &Tensor, sign: Sign, dtype: DType) -> Result<Call<Tensor>> {
    let (a, b) = (bridge::in_rows("add", a, a.elem_count())?, bridge::in_rows("add", b, b.elem_count())?);
    let output = (a.shape().clone(), dtype);
    bridge::run_one("add", &[&a, &b], output, |ins, out| add(&ins[0], &ins[1], sign, out))
}

/// Adds the elements of `x` to those of `target` among which they lie, in place. `target` is contiguous, and whoever shares
/// its storage sees the sums.
///
/// # Errors
///
/// As [`add_to_part`].
pub fn add_into(target: &Tensor, x: &Tensor, among: &Among) -> Result<Ran> {
    let x = bridge::in_rows("add", x, x.elem_count())?;
    bridge::update("add", target, &[&x], |ins, target| match ins {
        [x] => add_to_part(x, among, target),
        _ => Ok(Ran::Composed(Why::Shape("x"))),
    })
}

/// Adds `row` to each row of `target`, in place, as [`add_into`] does.
///
/// # Errors
///
/// As [`add_to_rows`].
pub fn add_row(target: &Tensor, row: &Tensor) -> Result<Ran> {
    let row = bridge::in_rows("add", row, row.elem_count())?;
    bridge::update("add", target, &[&row], |ins, target| match ins {
        [row] => add_to_rows(row, target),
        _ => Ok(Ran::Composed(Why::Shape("the row"))),
    })
}
