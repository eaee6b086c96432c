//! On the CPU: products of the kernel as a matrix, for a few images at a time, with columns that hold the pixels on which its
//! taps stand, for f32 and f64 whose channels lie second.
//!
//! Values and the gradient of images are computed for several such parts at a time, each on one thread; that of the kernel, which
//! is a sum over all parts, for one part after another. One image's values are a matrix as they lie, those of several are copied.

use super::sizes::{Sizes, each_of};
use super::{Channels, OP, Part};
use crate::buffer::{In, Place, Ran, Slice, SliceMut, Why};
use crate::kernels::product::{Before, Matrix, Packed, Then, Threads, matrix_product};

/// Writes the part that is written, where the two others lie as this reads them.
pub(super) fn convolution(
    sizes: Sizes,
    image: Part<'_, '_>,
    kernel: Part<'_, '_>,
    values: Part<'_, '_>,
) -> Ran {
    match (image, kernel, values) {
        (Part::In(image), Part::In(kernel), Part::Out(out, Channels::Second)) => {
            written(image, kernel, out.host_slice(), Values(sizes))
        }
        (Part::Out(out, Channels::Second), Part::In(kernel), Part::In(values)) => {
            written(values, kernel, out.host_slice(), ImageGradient(sizes))
        }
        (Part::In(image), Part::Out(out, Channels::Second), Part::In(values)) => {
            written(image, values, out.host_slice(), KernelGradient(sizes))
        }
        _ => Ran::Composed(Why::Layout("the result")),
    }
}

/// One of the three maps.
trait Map {
    fn map<T: Packed>(self, a: &[T], b: &[T], out: &mut [T]);
}

fn written(a: &In<'_>, b: &In<'_>, out: Option<SliceMut<'_>>, map: impl Map) -> Ran {
    if !a.is_contiguous() || !b.is_contiguous() {
        return Ran::Composed(Why::Layout("an operand"));
    }
    match (a.place(), b.place(), out) {
        (Place::Host(Slice::F32(x)), Place::Host(Slice::F32(y)), Some(SliceMut::F32(out))) => {
            map.map(&x[..a.count()], &y[..b.count()], out);
        }
        (Place::Host(Slice::F64(x)), Place::Host(Slice::F64(y)), Some(SliceMut::F64(out))) => {
            map.map(&x[..a.count()], &y[..b.count()], out);
        }
        _ => return Ran::Composed(Why::Dtype("an operand")),
    }
    Ran::Kernel(OP)
}

/// A matrix whose rows lie one after another.
fn by_rows(rows: usize, columns: usize) -> Matrix {
    Matrix { rows, columns, row: columns, column: 1 }
}

struct Values(Sizes);

impl Map for Values {
    fn map<T: Packed>(self, image: &[T], kernel: &[T], out: &mut [T]) {
        let s = self.0;
        let (planes, weights) = (s.out * s.places(), by_rows(s.out, s.rows()));
        s.each_part(out, s.groups * planes, |first, out, [columns, made], threads| {
            let count = out.len() / (s.groups * planes);
            let width = count * s.places();
            for group in 0..s.groups {
                s.columns(image, (first, count, group), columns, threads);
                let columns = (&columns[..], by_rows(s.rows(), width));
                let kernel = (&kernel[group * s.out * s.rows()..][..s.out * s.rows()], weights);
                if count == 1 {
                    let out = &mut out[group * planes..][..planes];
                    matrix_product(out, Then::WRITTEN, kernel, columns, threads);
                    continue;
                }
                made.resize(s.out * width, T::ZERO);
                matrix_product(made, Then::WRITTEN, kernel, columns, threads);
                for (i, out) in out.chunks_exact_mut(s.groups * planes).enumerate() {
                    let out = &mut out[group * planes..][..planes];
                    for (to, made) in out.chunks_exact_mut(s.places()).zip(made.chunks_exact(width)) {
                        to.copy_from_slice(&made[i * s.places()..][..s.places()]);
                    }
                }
            }
        });
    }
}

struct ImageGradient(Sizes);

impl Map for ImageGradient {
    fn map<T: Packed>(self, values: &[T], kernel: &[T], out: &mut [T]) {
        let s = self.0;
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
    fn map<T: Packed>(self, image: &[T], values: &[T], out: &mut [T]) {
        let s = self.0;
        let (mut columns, mut memory) = (Vec::new(), Vec::new());
        for first in (0..s.images).step_by(s.each()) {
            let count = s.each().min(s.images - first);
            let width = count * s.places();
            let before = if first == 0 { Before::Replaced } else { Before::Kept };
            for (group, out) in out.chunks_exact_mut(s.out * s.rows()).enumerate() {
                s.columns(image, (first, count, group), &mut columns, Threads::All);
                let values = (s.values(values, (first, count, group), &mut memory), by_rows(s.out, width));
                let columns = (&columns[..], by_rows(s.rows(), width).transposed());
                matrix_product(out, Then { before, ..Then::WRITTEN }, values, columns, Threads::All);
            }
        }
    }
}
