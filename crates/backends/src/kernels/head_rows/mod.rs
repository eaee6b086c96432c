//! Heads of attention, copied to where products read them and back, each element times a number: on a GPU, of f32 and f64.
//!
//! `(batch, heads, rows, width)` lies as it likes on either side, but for rows in one piece that begin at multiples of 16 bytes: a
//! projection to queries, keys and values is read, and its gradient written, in place. Contract: a product of two numbers of the
//! dtype, rounded once; a factor of 1 is a copy, bit by bit but for NaN.
//!
//! Elsewhere, and for what does not lie so, the caller copies as it can.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "candle")]
mod tensors;

#[cfg(feature = "candle")]
pub use tensors::{gathered, packed};

#[cfg(not(feature = "cuda"))]
use crate::buffer::Why;
use crate::buffer::{In, Out, Ran};
use crate::{Error, Result};

const OP: &str = "head_rows";

/// Where `(batch, heads, rows, width)` lies in a buffer, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lying {
    /// Of the first element.
    pub offset: usize,
    /// From a batch element, a head and a row to the next.
    pub strides: [usize; 3],
}

impl Lying {
    /// The number of elements up to the last of these dimensions, of which none is 0.
    fn end(self, dims: [usize; 4]) -> Option<usize> {
        let steps = self.strides.iter().zip(dims).map(|(stride, d)| stride.checked_mul(d - 1));
        steps.chain([Some(dims[3])]).try_fold(self.offset, |end, step| end.checked_add(step?))
    }
}

/// Writes each element of `x`, `(batch, heads, rows, width)`, times `factor` to its place in `out`, which is contiguous.
///
/// # Errors
///
/// [`Error::Operand`] where `x` has other dimensions or `out` ends before the last place, and [`Error::Device`].
pub fn place(x: &In<'_>, factor: f64, out: &mut Out<'_>, lying: Lying) -> Result<Ran> {
    let refused = |argument, expected: String, got: &[usize]| {
        Err(Error::Operand { op: OP, argument, expected, got: format!("{got:?}") })
    };
    let &[batch, heads, rows, width] = x.dims() else {
        return refused("x", "(batch, heads, rows, width)".into(), x.dims());
    };
    let dims = [batch, heads, rows, width];
    if !dims.contains(&0) && lying.end(dims).is_none_or(|end| end > out.count()) {
        return refused("out", format!("{dims:?} at {lying:?}"), out.dims());
    }
    #[cfg(feature = "cuda")]
    return cuda::place(x, factor, out, lying);
    #[cfg(not(feature = "cuda"))]
    {
        let _ = factor;
        Ok(Ran::Composed(Why::Device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{Slice, SliceMut};

    #[test]
    fn what_does_not_fit_is_refused() {
        let (x, mut y) = ([0f32; 48], [0f32; 48]);
        let x = In::host("x", Slice::F32(&x), &[1, 2, 3, 8], &[48, 24, 8, 1]).unwrap();
        let mut out = Out::host("y", SliceMut::F32(&mut y), &[48]).unwrap();
        let mut at = |offset, strides| place(&x, 1., &mut out, Lying { offset, strides });
        assert!(at(0, [48, 8, 16]).is_ok());
        assert!(at(1, [48, 8, 16]).is_err());
        assert!(at(0, [48, 8, 17]).is_err());
        assert!(at(0, [48, usize::MAX, 16]).is_err());
    }
}
