//! Images as operands of a product, packed from where they lie: no matrix of columns is made.

use super::sizes::Sizes;
use crate::heap::{Number, fresh};
use crate::kernels::product::{Float, Matrix, Operand, turned};
use crate::simd::Simd;
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;

/// Numbers of a lane that are gathered before they are turned.
const GATHERED: usize = 32;

/// Images with their padding, so that every tap stands on a pixel.
pub(super) struct Padded<'a, T: Clone> {
    pixels: Cow<'a, [T]>,
    size: [usize; 2],
}

impl<'a, T: Float + Number> Padded<'a, T> {
    pub(super) fn new(s: Sizes, image: &'a [T]) -> Self {
        let [above, before] = s.moves.padding;
        let size = [s.size[0] + 2 * above, s.size[1] + 2 * before];
        if size == s.size {
            return Self { pixels: Cow::Borrowed(image), size };
        }
        let mut pixels = fresh(s.images * s.groups * s.channels * size[0] * size[1]);
        let planes = pixels.par_chunks_exact_mut(size[0] * size[1]).zip(image.par_chunks_exact(s.pixels()));
        planes.with_min_len(8).for_each(|(to, from)| {
            let (top, rest) = to.split_at_mut(above * size[1]);
            let (rows, bottom) = rest.split_at_mut(s.size[0] * size[1]);
            top.fill(T::ZERO);
            bottom.fill(T::ZERO);
            for (to, from) in rows.chunks_exact_mut(size[1]).zip(from.chunks_exact(s.size[1])) {
                to[..before].fill(T::ZERO);
                to[before..][..from.len()].copy_from_slice(from);
                to[before + from.len()..].fill(T::ZERO);
            }
        });
        Self { pixels: Cow::Owned(pixels), size }
    }

    /// The pixels of a group's images.
    pub(super) fn group(&self, s: Sizes, group: usize) -> Pixels<'_, T> {
        Pixels { s, x: &self.pixels, size: self.size, group }
    }
}

/// Where taps and positions lie among padded images.
#[derive(Clone, Copy)]
pub(super) struct Pixels<'a, T> {
    s: Sizes,
    x: &'a [T],
    size: [usize; 2],
    group: usize,
}

/// Positions that are side by side in a row: of so many numbers from one on, the first of which lies here.
#[derive(Clone, Copy)]
struct Piece {
    at: usize,
    len: usize,
    first: usize,
}

impl<T> Pixels<'_, T> {
    /// Where a channel's tap lies from where a position begins.
    fn tap(&self, row: usize) -> usize {
        let (channel, [i, j]) = self.s.tap(row);
        let [down, along] = self.s.moves.dilation;
        (channel * self.size[0] + i * down) * self.size[1] + j * along
    }

    /// The positions of all images in a range, in pieces.
    fn pieces(&self, of: Range<usize>) -> impl Iterator<Item = Piece> {
        let Self { s, size, group, .. } = *self;
        let mut at = of.start;
        std::iter::from_fn(move || {
            let (image, place) = (at / s.places(), at % s.places());
            let [p, q] = [place / s.positions[1], place % s.positions[1]];
            let len = (s.positions[1] - q).min(of.end.saturating_sub(at));
            let channels = (image * s.groups + group) * s.channels;
            let row = channels * size[0] + p * s.moves.stride[0];
            let piece = Piece { at: at - of.start, len, first: row * size[1] + q * s.moves.stride[1] };
            at += len;
            (len > 0).then_some(piece)
        })
    }
}

/// A lane for each position of all images, and a number for each tap of each channel.
#[derive(Clone, Copy)]
pub(super) struct Positions<'a, T>(pub(super) Pixels<'a, T>);

impl<T: Float> Operand<T> for Positions<'_, T> {
    fn lanes(&self) -> usize {
        self.0.s.images * self.0.s.places()
    }

    fn numbers(&self) -> usize {
        self.0.s.rows()
    }

    #[inline(always)]
    fn pack<S: Simd, const WIDTH: usize>(&self, _: S, first: usize, of: Range<usize>, to: &mut [[T; WIDTH]]) {
        let x = self.0.x;
        let taps: Vec<usize> = of.clone().map(|row| self.0.tap(row)).collect();
        let mut pieces = Vec::with_capacity(WIDTH);
        for (i, to) in to.chunks_exact_mut(of.len()).enumerate() {
            let lane = first + i * WIDTH;
            pieces.clear();
            pieces.extend(self.0.pieces(lane..self.lanes().min(lane + WIDTH)));
            let to = to.as_flattened_mut();
            for (term, tap) in taps.iter().enumerate() {
                for piece in &pieces {
                    let (to, from) = (&mut to[term * WIDTH + piece.at..], &x[piece.first + tap..]);
                    match (
                        self.0.s.moves.stride[1],
                        to.first_chunk_mut::<WIDTH>(),
                        from.first_chunk::<WIDTH>(),
                    ) {
                        // More than the piece: what follows is written after it.
                        (1, Some(to), Some(from)) => *to = *from,
                        (stride, ..) => {
                            let from = from.iter().step_by(stride);
                            to[..piece.len].iter_mut().zip(from).for_each(|(to, &x)| *to = x);
                        }
                    }
                }
            }
        }
    }
}

/// A lane for each tap of each channel, and a number for each position of all images.
#[derive(Clone, Copy)]
pub(super) struct Taps<'a, T>(pub(super) Pixels<'a, T>);

impl<T: Float> Operand<T> for Taps<'_, T> {
    fn lanes(&self) -> usize {
        self.0.s.rows()
    }

    fn numbers(&self) -> usize {
        self.0.s.images * self.0.s.places()
    }

    #[inline(always)]
    fn pack<S: Simd, const WIDTH: usize>(
        &self,
        simd: S,
        first: usize,
        of: Range<usize>,
        to: &mut [[T; WIDTH]],
    ) {
        let stride = self.0.s.moves.stride[1];
        let panels = to.len() / of.len();
        let taps: Vec<usize> =
            (first..self.lanes().min(first + panels * WIDTH)).map(|row| self.0.tap(row)).collect();
        let mut rows = [[T::ZERO; GATHERED]; WIDTH];
        let mut pieces = Vec::with_capacity(GATHERED);
        for start in of.clone().step_by(GATHERED) {
            let count = GATHERED.min(of.end - start);
            pieces.clear();
            pieces.extend(self.0.pieces(start..start + count));
            for (taps, to) in taps.chunks(WIDTH).zip(to.chunks_exact_mut(of.len())) {
                for (tap, row) in taps.iter().zip(&mut rows) {
                    for piece in &pieces {
                        let from = &self.0.x[piece.first + tap..];
                        let row = &mut row[piece.at..][..piece.len];
                        if stride == 1 {
                            row.copy_from_slice(&from[..piece.len]);
                        } else {
                            row.iter_mut().zip(from.iter().step_by(stride)).for_each(|(to, &x)| *to = x);
                        }
                    }
                }
                let matrix = Matrix { rows: taps.len(), columns: count, row: GATHERED, column: 1 };
                turned(simd, rows.as_flattened(), matrix, &mut to[start - of.start..][..count]);
            }
        }
    }
}

/// A lane for each channel of values, and a number for each position of all images.
#[derive(Clone, Copy)]
pub(super) struct Channels<'a, T> {
    pub(super) s: Sizes,
    pub(super) values: &'a [T],
    pub(super) group: usize,
}

impl<T: Float> Operand<T> for Channels<'_, T> {
    fn lanes(&self) -> usize {
        self.s.out
    }

    fn numbers(&self) -> usize {
        self.s.images * self.s.places()
    }

    #[inline(always)]
    fn pack<S: Simd, const WIDTH: usize>(
        &self,
        simd: S,
        first: usize,
        of: Range<usize>,
        to: &mut [[T; WIDTH]],
    ) {
        let places = self.s.places();
        for (i, to) in to.chunks_exact_mut(of.len()).enumerate() {
            let lane = first + i * WIDTH;
            let rows = WIDTH.min(self.s.out - lane);
            let mut at = of.start;
            while at < of.end {
                let (image, place) = (at / places, at % places);
                let columns = (places - place).min(of.end - at);
                let channel = (image * self.s.groups + self.group) * self.s.out + lane;
                let lanes = Matrix { rows, columns, row: places, column: 1 };
                let values = &self.values[channel * places + place..];
                turned(simd, values, lanes, &mut to[at - of.start..][..columns]);
                at += columns;
            }
        }
    }
}

/// A kernel turned around, as the gradient of images has it: a lane for each channel of images, and a number for each tap of each
/// channel of values.
#[derive(Clone, Copy)]
pub(super) struct Around<'a, T> {
    pub(super) kernel: &'a [T],
    pub(super) channels: usize,
    pub(super) taps: usize,
}

impl<T: Float> Operand<T> for Around<'_, T> {
    fn lanes(&self) -> usize {
        self.channels
    }

    fn numbers(&self) -> usize {
        self.kernel.len() / self.channels
    }

    #[inline(always)]
    fn pack<S: Simd, const WIDTH: usize>(&self, _: S, first: usize, of: Range<usize>, to: &mut [[T; WIDTH]]) {
        for (i, to) in to.chunks_exact_mut(of.len()).enumerate() {
            let channel = first + i * WIDTH;
            let there = WIDTH.min(self.channels - channel);
            for (number, to) in of.clone().zip(to) {
                let (value, tap) = (number / self.taps, self.taps - 1 - number % self.taps);
                let from = &self.kernel[(value * self.channels + channel) * self.taps + tap..];
                to[..there].iter_mut().zip(from.iter().step_by(self.taps)).for_each(|(to, &x)| *to = x);
            }
        }
    }
}
