//! Sizes that a caller asks for. A `Vec` that does not fit into memory ends the process, and candle multiplies sizes
//! without looking, so results are checked before anything is allocated.

use candle_core::DType;

use crate::{Error, Result};

/// Bytes that are not worth asking the system for.
const FEW: usize = 1 << 30;

/// An error unless a tensor of shape `dims` can be allocated.
pub(crate) fn check_size(op: &str, dims: &[usize], dtype: DType) -> Result<()> {
    let bytes = dims.iter().try_fold(dtype.size_in_bytes(), |bytes, &dim| bytes.checked_mul(dim));
    match bytes {
        Some(bytes) if bytes <= FEW || memmap2::MmapMut::map_anon(bytes).is_ok() => Ok(()),
        _ => Err(Error::argument(op, "the result's shape", format!("{dims:?}"), "one that fits into memory")),
    }
}
