//! The largest element of each window over two dimensions, with the tap under which it lies, and the gradient.

use super::host;
use crate::buffer::{In, Out, Place, Ran, Why};
use crate::simd::Isa;
use crate::{Error, Result};

pub(super) const OP: &str = "max_pool";
/// More taps than a byte counts.
const TAPS: usize = 256;

/// Windows over two dimensions of `(outer, height, width, inner)`. Each stands on one pixel at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// What is pooled: outer, height, width, inner.
    pub dims: [usize; 4],
    /// How many windows there are, down and across.
    pub count: [usize; 2],
    /// Taps of a window.
    pub kernel: [usize; 2],
    /// From one window to the next.
    pub stride: [usize; 2],
    /// How far windows reach over the edges.
    pub padding: [usize; 2],
}

impl Windows {
    /// The dimensions of what comes out.
    pub fn out(&self) -> [usize; 4] {
        [self.dims[0], self.count[0], self.count[1], self.dims[3]]
    }

    fn check(&self, x: usize, out: usize, taps: usize) -> Result<Option<Why>> {
        let size = |dims: [usize; 4]| dims.iter().product::<usize>();
        let of = |argument, got, expected| Err(Error::LengthMismatch { op: OP, argument, expected, got });
        if x != size(self.dims) {
            return of("x", x, size(self.dims));
        }
        if out != size(self.out()) || taps != out {
            return of("the largest", out.max(taps), size(self.out()));
        }
        // Indices of 32 bits, of which a padding may be subtracted.
        let fits = x.max(out) < u32::MAX as usize && self.kernel[0].saturating_mul(self.kernel[1]) <= TAPS;
        let inside = |i: usize| {
            let last = self.count[i].checked_sub(1)?.checked_mul(self.stride[i])?;
            (self.padding[i] < self.kernel[i] && last < self.dims[i + 1] + self.padding[i]).then_some(())
        };
        Ok((!fits || inside(0).is_none() || inside(1).is_none()).then_some(Why::Shape("x")))
    }
}

/// Writes the largest of each window, and the number of its tap. NaN is larger than any number, and of equals the first wins.
///
/// # Errors
///
/// [`Error::LengthMismatch`] and [`Error::Device`].
pub fn largest(windows: &Windows, x: &In<'_>, out: &mut Out<'_>, taps: &mut Out<'_>) -> Result<Ran> {
    if let Some(why) = windows.check(x.count(), out.count(), taps.count())? {
        return Ok(Ran::Composed(why));
    }
    match x.place() {
        Place::Host(_) => Ok(host::largest(Isa::best(), windows, x, out, taps)),
        #[cfg(feature = "cuda")]
        Place::Device(_) => super::cuda::largest(windows, x, out, taps),
    }
}

/// Writes the gradient of `x` from that of the largest: to each element what its windows have, added in their order in f32
/// (f64 for f64) and rounded once.
///
/// # Errors
///
/// As [`largest`].
pub fn gradient(windows: &Windows, dy: &In<'_>, taps: &In<'_>, dx: &mut Out<'_>) -> Result<Ran> {
    if let Some(why) = windows.check(dx.count(), dy.count(), taps.count())? {
        return Ok(Ran::Composed(why));
    }
    match dy.place() {
        Place::Host(_) => Ok(host::gradient(Isa::best(), windows, dy, taps, dx)),
        #[cfg(feature = "cuda")]
        Place::Device(_) => super::cuda::gradient(windows, dy, taps, dx),
    }
}
