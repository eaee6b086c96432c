//! Rows of a table by their index, on a GPU: `out[i] = table[ids[i]]`, and NaN where an id is no row, since looking would make the
//! host wait. A copy, bit for bit.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "candle")]
mod tensors;

#[cfg(feature = "candle")]
pub use tensors::lookup_of;
