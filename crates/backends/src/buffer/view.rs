//! Dimensions and strides: what they may be, and how they are seen as rows.

use super::ScalarType;
use crate::{Error, Result};

/// Dimensions and strides, in elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) dims: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) count: usize,
}

impl View {
    /// Checks that every index leads to one of `len` elements of the type.
    pub(super) fn new(
        argument: &'static str,
        of: ScalarType,
        dims: &[usize],
        strides: &[usize],
        len: usize,
    ) -> Result<Self> {
        let refuse = |expected: &str| Error::Operand {
            op: "buffer",
            argument,
            expected: expected.to_string(),
            got: format!("{dims:?} strided by {strides:?} over {len} elements"),
        };
        if dims.len() != strides.len() {
            return Err(refuse("as many strides as dimensions"));
        }
        // Zero dimensions make an empty buffer whatever the others are, as long as they can be multiplied.
        let product = dims.iter().filter(|&&d| d > 0).try_fold(1usize, |n, &d| n.checked_mul(d));
        let bytes = product.and_then(|n| n.checked_mul(of.bytes())).filter(|&n| isize::try_from(n).is_ok());
        let (Some(product), Some(_)) = (product, bytes) else {
            return Err(refuse("a size that can be counted"));
        };
        let count = if dims.contains(&0) { 0 } else { product };
        if count > 0 {
            let reach = dims.iter().zip(strides).try_fold(0usize, |reach, (&d, &s)| {
                (d - 1).checked_mul(s).and_then(|step| reach.checked_add(step))
            });
            if reach.is_none_or(|last| last >= len) {
                return Err(refuse("memory that every index leads to"));
            }
        }
        Ok(Self { dims: dims.to_vec(), strides: strides.to_vec(), count })
    }

    pub(super) fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.count == 0
            || self.dims.iter().zip(&self.strides).rev().all(|(&d, &s)| {
                let fits = d == 1 || s == expected;
                expected *= d;
                fits
            })
    }
}

/// A buffer seen as rows of contiguous elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// How many there are.
    pub count: usize,
    /// The elements of each.
    pub width: usize,
    /// From the start of one to the start of the next, in elements.
    pub pitch: usize,
}

/// Memory of these dimensions and strides as rows of `width` elements, where the elements of each row lie one after
/// another and all rows are equally far apart. `None` where they are not, and for an empty row.
pub fn rows(dims: &[usize], strides: &[usize], width: usize) -> Option<Rows> {
    let total = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    if width == 0 || !total.is_multiple_of(width) {
        return None;
    }
    let count = total / width;
    if count == 0 {
        return Some(Rows { count, width, pitch: width });
    }
    // Dimensions that walk the memory as one does, from the last on.
    let mut runs: Vec<(usize, usize)> = Vec::with_capacity(dims.len());
    for (&d, &s) in dims.iter().zip(strides).rev().filter(|&(&d, _)| d != 1) {
        match runs.last_mut() {
            Some((len, stride)) if len.checked_mul(*stride) == Some(s) => *len *= d,
            _ => runs.push((d, s)),
        }
    }
    let pitch = match runs[..] {
        [] => width,
        [(len, 1)] if len.is_multiple_of(width) => width,
        [(_, pitch)] if width == 1 => pitch,
        [(len, 1), (_, pitch)] if len == width => pitch,
        _ => return None,
    };
    Some(Rows { count, width, pitch })
}

/// The number of elements of a contiguous buffer, checked as [`View::new`] does.
pub(super) fn contiguous(
    argument: &'static str,
    of: ScalarType,
    dims: &[usize],
    len: usize,
) -> Result<usize> {
    let mut strides = vec![1usize; dims.len()];
    for i in (1..dims.len()).rev() {
        // Saturating: where it does so, the count of elements is refused.
        strides[i - 1] = strides[i].saturating_mul(dims[i].max(1));
    }
    Ok(View::new(argument, of, dims, &strides, len)?.count)
}
