//! On the CPU: products of the kernel as a matrix, for operands whose channels lie second; 16 bits are widened first, and rounded once. Values and the gradient of the kernel are
//! products with the pixels on which taps stand, packed from where they lie.
//!
//! So is the gradient of images where positions are neighbours, with kernels turned around; or else it is made of columns, which
//! hold a number for each tap in each position, and are added up: for a few images at a time, several such parts side by side,
//! each on one thread. One image's values are a matrix as they lie, those of several are copied.

use super::operands::{Around, Channels, Padded, Positions, Taps};
use super::sizes::{Sizes, each_of};
use super::{OP, Part};
use crate::buffer::{In, Place, Ran, Slice, SliceMut, Why};
use crate::heap::fresh;
use crate::kernels::cast::convert_slice;
use crate::kernels::product::{
    Float, Lies, Matrix, Operand, Strided, Then, Threads, matrix_product, multiply, multiply_turned,
};
use crate::simd::Isa;

/// Writes the part that is written, where the two others lie as this reads them.
pub(super) fn convolution(
    sizes: Sizes,
    image: Part<'_, '_>,
    kernel: Part<'_, '_>,
    values: Part<'_, '_>,
) -> Ran {
    match (image, kernel, values) {
        (Part::In(image), Part::In(kernel), Part::Out(out, super::Channels::Second)) => {
            written(image, kernel, out.host_slice(), Values(sizes))
        }
        (Part::Out(out, super::Channels::Second), Part::In(kernel), Part::In(values)) => {
            written(values, kernel, out.host_slice(), ImageGradient(sizes))
        }
        (Part::In(image), Part::Out(out, super::Channels::Second), Part::In(values)) => {
            written(image, values, out.host_slice(), KernelGradient(sizes))
        }
        _ => Ran::Composed(Why::Layout("the result")),
    }
}

/// One of the three maps.
trait Map {
    fn map<T: Float>(self, a: &[T], b: &[T], out: &mut [T]);
}

fn written(a: &In<'_>, b: &In<'_>, out: Option<SliceMut<'_>>, map: impl Map) -> Ran {
    if !a.is_contiguous() || !b.is_contiguous() {
        return Ran::Composed(Why::Layout("an operand"));
    }
    let (Place::Host(x), Place::Host(y), Some(out)) = (a.place(), b.place(), out) else {
        return Ran::Composed(Why::Device);
    };
    match (x.until(a.count()), y.until(b.count()), out) {
        (Slice::F32(x), Slice::F32(y), SliceMut::F32(out)) => map.map(x, y, out),
        (Slice::F64(x), Slice::F64(y), SliceMut::F64(out)) => map.map(x, y, out),
        (x @ Slice::F16(_), y @ Slice::F16(_), out @ SliceMut::F16(_))
        | (x @ Slice::Bf16(_), y @ Slice::Bf16(_), out @ SliceMut::Bf16(_)) => {
            let mut sums = fresh(out.len());
            map.map(&widened(x), &widened(y), &mut sums);
            return match convert_slice(Isa::best(), Slice::F32(&sums), out) {
                Ran::Kernel(_) => Ran::Kernel(OP),
                composed => composed,
            };
        }
        _ => return Ran::Composed(Why::Dtype("an operand")),
    }
    Ran::Kernel(OP)
}

/// 16-bit numbers in f32.
fn widened(x: Slice<'_>) -> Vec<f32> {
    let mut wide = fresh(x.len());
    convert_slice(Isa::best(), x, SliceMut::F32(&mut wide));
    wide
}

/// A matrix whose rows lie one after another.
fn by_rows(rows: usize, columns: usize) -> Matrix {
    Matrix { rows, columns, row: columns, column: 1 }
}

struct Values(Sizes);

impl Map for Values {
    fn map<T: Float>(self, image: &[T], kernel: &[T], out: &mut [T]) {
        let s = self.0;
        let weights = by_rows(s.out, s.rows());
        correlated(s, image, out, |group| {
            Strided::new(&kernel[group * s.out * s.rows()..][..s.out * s.rows()], weights)
        });
    }
}

/// Writes the values of images with kernels, of which `kernel` has those of a group: a lane for each channel.
fn correlated<T: Float, K: Operand<T>>(s: Sizes, image: &[T], out: &mut [T], kernel: impl Fn(usize) -> K) {
    let image = Padded::new(s, image);
    let planes = s.out * s.places();
    let lies = Lies { pitch: s.places(), piece: s.places(), apart: s.groups * planes };
    for group in 0..s.groups {
        let positions = Positions(image.group(s, group));
        let out = (&mut out[group * planes..], lies);
        // Positions are packed where they are multiplied: there are more of them, and each is used less.
        multiply_turned::<T, T>(Isa::best(), kernel(group), positions, Then::WRITTEN, out, Threads::All);
    }
}

struct ImageGradient(Sizes);

impl Map for ImageGradient {
    fn map<T: Float>(self, values: &[T], kernel: &[T], out: &mut [T]) {
        let s = self.0;
        if let Some(around) = s.around() {
            let (channels, taps) = (s.channels, s.taps[0] * s.taps[1]);
            return correlated(around, values, out, |group| {
                let kernel = &kernel[group * s.out * s.rows()..][..s.out * s.rows()];
                Around { kernel, channels, taps }
            });
        }
        let (planes, weights) = (s.channels * s.pixels(), by_rows(s.out, s.rows()).transposed());
        s.each_part(out, s.groups * planes, |first, out, [columns, memory], threads| {
            let count = out.len() / (s.groups * planes);
            let width = count * s.places();
            columns.resize(s.rows() * width, T::ZERO);
            for group in 0..s.groups {
                let values = (s.values(values, (first, count, group), memory), by_rows(s.out, width));
                let kernel = (&kernel[group * s.out * s.rows()..][..s.out * s.rows()], weights);
                matrix_product(columns, Then::WRITTEN, kernel, values, threads);
                for (i, out) in out.chunks_exact_mut(s.groups * planes).enumerate() {
                    let columns = &columns[i * s.places()..];
                    let add = |(channel, plane): (usize, &mut [T])| s.add_up(columns, width, channel, plane);
                    each_of(&mut out[group * planes..][..planes], s.pixels(), threads, add);
                }
            }
        });
    }
}

struct KernelGradient(Sizes);

impl Map for KernelGradient {
    fn map<T: Float>(self, image: &[T], values: &[T], out: &mut [T]) {
        let s = self.0;
        let image = Padded::new(s, image);
        for (group, out) in out.chunks_exact_mut(s.out * s.rows()).enumerate() {
            let (channels, taps) = (Channels { s, values, group }, Taps(image.group(s, group)));
            let out = (out, Lies::by_rows(s.rows()));
            multiply::<T, T>(Isa::best(), channels, taps, Then::WRITTEN, out, Threads::All);
        }
    }
}
