//! Rows of a table by their index: `out[i] = table[ids[i]]`, and NaN where an id is no row: on a GPU looking at ids would make the host
//! wait. A copy, bit for bit, of f16, bf16, f32 or f64, by ids of i64, u32 or u8.

#[cfg(feature = "cuda")]
mod cuda;
mod host;
#[cfg(feature = "candle")]
mod tensors;
#[cfg(test)]
mod tests;

#[cfg(feature = "candle")]
pub use tensors::lookup_of;

use crate::buffer::{In, Out, Place, Ran, Why};
use crate::{Error, Result};

const OP: &str = "lookup";

/// Writes a row of `width` elements of a contiguous `table` for each of the contiguous `ids`.
///
/// # Errors
///
/// [`Error::LengthMismatch`] where the table is not of whole rows or `out` not of one for each id, and [`Error::Device`].
pub fn lookup(ids: &In<'_>, table: &In<'_>, width: usize, out: &mut Out<'_>) -> Result<Ran> {
    Error::same_length(OP, "the table", table.count() / width.max(1) * width, table.count())?;
    Error::same_length(OP, "the result", ids.count().saturating_mul(width), out.count())?;
    if out.scalar_type() != table.scalar_type() || !ids.is_contiguous() || !table.is_contiguous() {
        return Ok(Ran::Composed(Why::Layout("ids or the table")));
    }
    match table.place() {
        Place::Host(_) => Ok(host::lookup(ids, table, width, out)),
        #[cfg(feature = "cuda")]
        Place::Device(_) => cuda::lookup(ids, table, width, out),
    }
}
