//! What a kernel reads and writes: typed memory with dimensions and strides, on the host or on a device.
//!
//! [`In`] and [`Out`] are checked when they are made: no index within the dimensions leads past the memory, and no count
//! of elements or bytes overflows. Kernels rely on that. Counts are 64 bits wide throughout.
//!
//! What is read may be strided. What is written is contiguous.

mod scalar;
#[cfg(test)]
mod tests;

pub use scalar::{Scalar, ScalarType, Slice, SliceMut};

#[cfg(feature = "cuda")]
use crate::cuda::DeviceSlice;
use crate::{Error, Result};

/// What became of a call: a kernel ran and wrote every output, or none takes such a call and nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// The kernel of this name.
    Kernel(&'static str),
    /// The caller is to compose the operation from others.
    Composed(Why),
}

/// Why no kernel takes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Why {
    /// There is none for the device.
    #[error("there is no kernel for this device")]
    Device,
    /// There is none for the dtype of the argument, or none beside the dtypes of the others.
    #[error("no kernel takes {0} of such a dtype")]
    Dtype(&'static str),
    /// There is none for the shape of the argument.
    #[error("no kernel takes {0} of such a shape")]
    Shape(&'static str),
    /// The argument is strided in a way that no kernel reads.
    #[error("no kernel takes {0} with such strides")]
    Layout(&'static str),
}

/// Dimensions and strides, in elements.
#[derive(Clone, Debug, PartialEq, Eq)]
struct View {
    dims: Vec<usize>,
    strides: Vec<usize>,
    count: usize,
}

impl View {
    /// Checks that every index leads to one of `len` elements of the type.
    fn new(
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

    fn is_contiguous(&self) -> bool {
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

/// Where elements are that are read.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// In host memory. The first is the one of index 0.
    Host(Slice<'a>),
    /// In a device's memory.
    #[cfg(feature = "cuda")]
    Device(DeviceSlice<'a>),
}

/// A buffer that a kernel reads.
#[derive(Clone, Debug)]
pub struct In<'a> {
    view: View,
    scalar_type: ScalarType,
    place: Place<'a>,
}

impl<'a> In<'a> {
    /// A buffer in host memory.
    ///
    /// # Errors
    ///
    /// [`Error::Operand`] where an index leads past the slice, or a size overflows.
    pub fn host(argument: &'static str, slice: Slice<'a>, dims: &[usize], strides: &[usize]) -> Result<Self> {
        let scalar_type = slice.scalar_type();
        let view = View::new(argument, scalar_type, dims, strides, slice.len())?;
        Ok(Self { view, scalar_type, place: Place::Host(slice) })
    }

    /// A buffer in a device's memory.
    ///
    /// # Errors
    ///
    /// As [`host`](Self::host).
    #[cfg(feature = "cuda")]
    pub fn device(
        argument: &'static str,
        of: ScalarType,
        slice: DeviceSlice<'a>,
        dims: &[usize],
        strides: &[usize],
    ) -> Result<Self> {
        let view = View::new(argument, of, dims, strides, slice.len())?;
        Ok(Self { view, scalar_type: of, place: Place::Device(slice) })
    }

    /// The type of the elements.
    pub fn scalar_type(&self) -> ScalarType {
        self.scalar_type
    }

    /// The dimensions.
    pub fn dims(&self) -> &[usize] {
        &self.view.dims
    }

    /// From one index of a dimension to the next, in elements.
    pub fn strides(&self) -> &[usize] {
        &self.view.strides
    }

    /// The number of elements.
    pub fn count(&self) -> usize {
        self.view.count
    }

    /// Where they are.
    pub fn place(&self) -> Place<'a> {
        self.place
    }

    /// Whether they lie one after another in the order of their indices.
    pub fn is_contiguous(&self) -> bool {
        self.view.is_contiguous()
    }

    /// The buffer as [`rows`] of `width` elements.
    pub fn rows(&self, width: usize) -> Option<Rows> {
        rows(&self.view.dims, &self.view.strides, width)
    }

    /// All elements, where they are in host memory, of this type, and contiguous.
    pub fn slice<T: Scalar>(&self) -> Option<&'a [T]> {
        let slice = self.strided::<T>()?;
        if self.is_contiguous() { slice.get(..self.count()) } else { None }
    }

    /// The memory from the first element on, where it is the host's; nothing where it is not.
    pub fn host_place(&self) -> Slice<'a> {
        match self.place {
            Place::Host(slice) => slice,
            #[cfg(feature = "cuda")]
            Place::Device(_) => Slice::U8(&[]),
        }
    }

    /// All elements, where they are in host memory and contiguous.
    pub fn host_slice(&self) -> Option<Slice<'a>> {
        match self.place {
            _ if !self.is_contiguous() => None,
            Place::Host(slice) => Some(slice.until(self.count())),
            #[cfg(feature = "cuda")]
            Place::Device(_) => None,
        }
    }

    /// The memory from the first element on, where it is the host's and the elements are of this type. The strides say
    /// where they are in it.
    pub fn strided<T: Scalar>(&self) -> Option<&'a [T]> {
        match self.place {
            Place::Host(slice) => T::read(slice),
            #[cfg(feature = "cuda")]
            Place::Device(_) => None,
        }
    }
}

/// Where elements are that are written.
#[derive(Debug)]
pub enum PlaceMut<'a> {
    /// In host memory.
    Host(SliceMut<'a>),
    /// In a device's memory.
    #[cfg(feature = "cuda")]
    Device(DeviceSlice<'a>),
}

/// A contiguous buffer that a kernel writes, and nobody else reads or writes meanwhile. What a fresh one holds means
/// nothing; one that is updated in place holds what it is updated from.
#[derive(Debug)]
pub struct Out<'a> {
    dims: Vec<usize>,
    count: usize,
    scalar_type: ScalarType,
    place: PlaceMut<'a>,
}

impl<'a> Out<'a> {
    /// A buffer in host memory.
    ///
    /// # Errors
    ///
    /// [`Error::Operand`] where the slice is too short, or a size overflows.
    pub fn host(argument: &'static str, slice: SliceMut<'a>, dims: &[usize]) -> Result<Self> {
        let scalar_type = slice.scalar_type();
        let count = contiguous(argument, scalar_type, dims, slice.len())?;
        Ok(Self { dims: dims.to_vec(), count, scalar_type, place: PlaceMut::Host(slice) })
    }

    /// A buffer in a device's memory.
    ///
    /// # Errors
    ///
    /// As [`host`](Self::host).
    #[cfg(feature = "cuda")]
    pub fn device(
        argument: &'static str,
        of: ScalarType,
        slice: DeviceSlice<'a>,
        dims: &[usize],
    ) -> Result<Self> {
        let count = contiguous(argument, of, dims, slice.len())?;
        Ok(Self { dims: dims.to_vec(), count, scalar_type: of, place: PlaceMut::Device(slice) })
    }

    /// The type of the elements.
    pub fn scalar_type(&self) -> ScalarType {
        self.scalar_type
    }

    /// The dimensions.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The number of elements.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Where they are.
    pub fn place(&mut self) -> &mut PlaceMut<'a> {
        &mut self.place
    }

    /// All elements, where they are in host memory.
    pub fn host_slice(&mut self) -> Option<SliceMut<'_>> {
        match &mut self.place {
            PlaceMut::Host(slice) => Some(slice.until(self.count)),
            #[cfg(feature = "cuda")]
            PlaceMut::Device(_) => None,
        }
    }

    /// All elements, where they are in host memory and of this type.
    pub fn slice<T: Scalar>(&mut self) -> Option<&mut [T]> {
        match &mut self.place {
            PlaceMut::Host(slice) => T::write(slice)?.get_mut(..self.count),
            #[cfg(feature = "cuda")]
            PlaceMut::Device(_) => None,
        }
    }
}

fn contiguous(argument: &'static str, of: ScalarType, dims: &[usize], len: usize) -> Result<usize> {
    let mut strides = vec![1usize; dims.len()];
    for i in (1..dims.len()).rev() {
        // Saturating: where it does so, the count of elements is refused.
        strides[i - 1] = strides[i].saturating_mul(dims[i].max(1));
    }
    Ok(View::new(argument, of, dims, &strides, len)?.count)
}
