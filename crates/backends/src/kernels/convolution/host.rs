//! On the CPU: products of the kernel as a matrix, for a few images at a time, with columns that hold the pixels on which its
//! taps stand, for f32 and f64 whose channels lie second.

use rayon::prelude::*;

use super::{Channels, Moves, OP, Part};
use crate::buffer::{In, Place, Ran, Slice, SliceMut, Why};
use crate::kernels::product::{Before, Matrix, Packed, Then, Threads, matrix_product};

/// Elements of columns that are made at a time: they stay in a cache until they are multiplied.
const COLUMNS: usize = 1 << 20;

/// Sizes, of which the channels are those of one group.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) moves: Moves,
    pub(super) images: usize,
    pub(super) groups: usize,
    pub(super) channels: usize,
    pub(super) out: usize,
    pub(super) size: [usize; 2],
    pub(super) taps: [usize; 2],
    pub(super) positions: [usize; 2],
}

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

impl Sizes {
    /// Rows of the columns: the channels' taps.
    fn rows(self) -> usize {
        self.channels * self.taps[0] * self.taps[1]
    }

    fn pixels(self) -> usize {
        self.size[0] * self.size[1]
    }

    fn places(self) -> usize {
        self.positions[0] * self.positions[1]
    }

    /// Each group of each few images: the first of them, how many, and the group.
    fn parts(self) -> impl Iterator<Item = (usize, usize, usize)> {
        let each = (COLUMNS / (self.rows() * self.places()).max(1)).clamp(1, self.images.max(1));
        let firsts = (0..self.images).step_by(each);
        firsts.flat_map(move |first| (0..self.groups).map(move |g| (first, each.min(self.images - first), g)))
    }

    /// The planes of a group of an image among all that have `channels` in a group and `size` elements each.
    fn planes<T>(self, x: &[T], image: usize, group: usize, channels: usize, size: usize) -> &[T] {
        let len = channels * size;
        &x[(image * self.groups + group) * len..][..len]
    }

    /// What `images` hold of the values, side by side, as a matrix of `out` rows.
    fn values<T: Packed>(self, values: &[T], (first, count, group): (usize, usize, usize), to: &mut Vec<T>) {
        let places = self.places();
        to.resize(self.out * count * places, T::ZERO);
        for (row, to) in to.chunks_exact_mut(count * places).enumerate() {
            for (i, to) in to.chunks_exact_mut(places).enumerate() {
                let from = self.planes(values, first + i, group, self.out, places);
                to.copy_from_slice(&from[row * places..][..places]);
            }
        }
    }

    /// The pixels on which each tap stands, side by side for the images.
    fn columns<T: Packed>(self, image: &[T], (first, count, group): (usize, usize, usize), to: &mut Vec<T>) {
        let places = self.places();
        to.resize(self.rows() * count * places, T::ZERO);
        to.par_chunks_exact_mut(count * places).enumerate().for_each(|(row, to)| {
            let (channel, tap) = self.tap(row);
            for (i, to) in to.chunks_exact_mut(places).enumerate() {
                let planes = self.planes(image, first + i, group, self.channels, self.pixels());
                let plane = &planes[channel * self.pixels()..][..self.pixels()];
                for (p, to) in to.chunks_exact_mut(self.positions[1]).enumerate() {
                    let row = self.pixel(0, p, tap[0]).map(|y| &plane[y * self.size[1]..][..self.size[1]]);
                    self.along(row, tap[1], to);
                }
            }
        });
    }

    /// A row of positions: their pixels of `row`, or zeros.
    fn along<T: Packed>(self, row: Option<&[T]>, tap: usize, to: &mut [T]) {
        let Some(row) = row else { return to.fill(T::ZERO) };
        let inside = self.inside(tap);
        to[..inside.start].fill(T::ZERO);
        to[inside.end..].fill(T::ZERO);
        let from = self.pixel(1, inside.start, tap).unwrap_or(0);
        let to = &mut to[inside];
        match self.moves.stride[1] {
            1 => to.copy_from_slice(&row[from..from + to.len()]),
            stride => to.iter_mut().zip(row[from..].iter().step_by(stride)).for_each(|(to, &x)| *to = x),
        }
    }

    /// Adds what `columns` has for each pixel of a channel.
    fn add_up<T: Packed>(self, columns: &[T], width: usize, channel: usize, plane: &mut [T]) {
        plane.fill(T::ZERO);
        let taps = self.taps[0] * self.taps[1];
        for row in channel * taps..(channel + 1) * taps {
            let (_, tap) = self.tap(row);
            let inside = self.inside(tap[1]);
            let Some(first) = self.pixel(1, inside.start, tap[1]).filter(|_| !inside.is_empty()) else {
                continue;
            };
            let from = &columns[row * width..][..self.places()];
            for (p, from) in from.chunks_exact(self.positions[1]).enumerate() {
                let Some(y) = self.pixel(0, p, tap[0]) else { continue };
                let to = &mut plane[y * self.size[1]..][..self.size[1]][first..];
                let from = &from[inside.clone()];
                match self.moves.stride[1] {
                    1 => to.iter_mut().zip(from).for_each(|(to, &x)| *to = *to + x),
                    stride => to.iter_mut().step_by(stride).zip(from).for_each(|(to, &x)| *to = *to + x),
                }
            }
        }
    }

    /// Channel and tap of a row of columns.
    fn tap(self, row: usize) -> (usize, [usize; 2]) {
        let [height, width] = self.taps;
        (row / (height * width), [row / width % height, row % width])
    }

    /// The pixel under a tap in a position, along one dimension, where there is one.
    fn pixel(self, along: usize, position: usize, tap: usize) -> Option<usize> {
        let Moves { padding, stride, dilation } = self.moves;
        let padded = position * stride[along] + tap * dilation[along];
        padded.checked_sub(padding[along]).filter(|&pixel| pixel < self.size[along])
    }

    /// The positions in which a tap stands on a pixel, along a row.
    fn inside(self, tap: usize) -> std::ops::Range<usize> {
        let (stride, shift) = (self.moves.stride[1], tap * self.moves.dilation[1]);
        let first = self.moves.padding[1].saturating_sub(shift).div_ceil(stride).min(self.positions[1]);
        let end = (self.size[1] + self.moves.padding[1]).saturating_sub(shift).div_ceil(stride);
        first..end.clamp(first, self.positions[1])
    }
}

/// A matrix whose rows lie one after another.
fn by_rows(rows: usize, columns: usize) -> Matrix {
    Matrix { rows, columns, row: columns, column: 1 }
}

struct Values(Sizes);

impl Map for Values {
    fn map<T: Packed>(self, image: &[T], kernel: &[T], out: &mut [T]) {
        let s = self.0;
        let (mut columns, mut made) = (Vec::new(), Vec::new());
        let weights = by_rows(s.out, s.rows());
        for part @ (first, count, group) in s.parts() {
            let width = count * s.places();
            s.columns(image, part, &mut columns);
            made.resize(s.out * width, T::ZERO);
            let kernel = &kernel[group * s.out * s.rows()..][..s.out * s.rows()];
            let columns = (&columns[..], by_rows(s.rows(), width));
            matrix_product(&mut made, Then::WRITTEN, (kernel, weights), columns, Threads::All);
            for (row, made) in made.chunks_exact(width).enumerate() {
                for (i, made) in made.chunks_exact(s.places()).enumerate() {
                    let plane = ((first + i) * s.groups + group) * s.out + row;
                    out[plane * s.places()..][..s.places()].copy_from_slice(made);
                }
            }
        }
    }
}

struct ImageGradient(Sizes);

impl Map for ImageGradient {
    fn map<T: Packed>(self, values: &[T], kernel: &[T], out: &mut [T]) {
        let s = self.0;
        let (mut columns, mut packed) = (Vec::new(), Vec::new());
        let weights = by_rows(s.out, s.rows()).transposed();
        for part @ (first, count, group) in s.parts() {
            let width = count * s.places();
            s.values(values, part, &mut packed);
            columns.resize(s.rows() * width, T::ZERO);
            let kernel = &kernel[group * s.out * s.rows()..][..s.out * s.rows()];
            let packed = (&packed[..], by_rows(s.out, width));
            matrix_product(&mut columns, Then::WRITTEN, (kernel, weights), packed, Threads::All);
            let planes = s.channels * s.pixels();
            for i in 0..count {
                let out = &mut out[((first + i) * s.groups + group) * planes..][..planes];
                let columns = &columns[i * s.places()..];
                let each = out.par_chunks_exact_mut(s.pixels()).enumerate();
                each.for_each(|(channel, plane)| s.add_up(columns, width, channel, plane));
            }
        }
    }
}

struct KernelGradient(Sizes);

impl Map for KernelGradient {
    fn map<T: Packed>(self, image: &[T], values: &[T], out: &mut [T]) {
        let s = self.0;
        let (mut columns, mut packed) = (Vec::new(), Vec::new());
        for part @ (first, count, group) in s.parts() {
            let width = count * s.places();
            s.columns(image, part, &mut columns);
            s.values(values, part, &mut packed);
            let out = &mut out[group * s.out * s.rows()..][..s.out * s.rows()];
            let before = if first == 0 { Before::Replaced } else { Before::Kept };
            let packed = (&packed[..], by_rows(s.out, width));
            let columns = (&columns[..], by_rows(s.rows(), width).transposed());
            matrix_product(out, Then { before, ..Then::WRITTEN }, packed, columns, Threads::All);
        }
    }
}
