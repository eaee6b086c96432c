//! The call with candle's tensors.

use candle_core::Tensor;

use super::{OP, lookup};
use crate::Result;
use crate::bridge::{Call, in_rows, run_one};
use crate::buffer::{Ran, Why};

/// The rows of `table`, `[rows, width]` of floats, that `ids` name: `[ids, width]`, part of no graph.
///
/// # Errors
///
/// [`Error::Device`](crate::Error::Device).
pub fn lookup_of(ids: &Tensor, table: &Tensor) -> Result<Call<Tensor>> {
    let &[_, width] = table.dims() else { return Ok(Call::Composed(Why::Shape("the table"))) };
    let countable = u32::try_from(ids.elem_count()).is_ok();
    if !countable || ids.elem_count() * table.elem_count() == 0 {
        return Ok(Call::Composed(Why::Device));
    }
    let (ids, table) = (in_rows(OP, ids, ids.elem_count())?, in_rows(OP, table, table.elem_count())?);
    let output = ((ids.elem_count(), width).into(), table.dtype());
    run_one(OP, &[&ids, &table], output, |ins, out| match ins {
        [ids, table] => lookup(ids, table, width, out),
        _ => Ok(Ran::Composed(Why::Shape("the table"))),
    })
}
