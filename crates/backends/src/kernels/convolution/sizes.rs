//! Sizes of a convolution on a CPU, and columns added up to images.

use super::Moves;
use super::operands::Pixel;
use crate::kernels::product::Float;
use crate::threads::Threads;
use rayon::prelude::*;

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

impl Sizes {
    /// Rows of the columns: the channels' taps.
    pub(super) fn rows(self) -> usize {
        self.channels * self.taps[0] * self.taps[1]
    }

    /// Products of two numbers that each of the three maps adds up.
    pub(super) fn multiplications(self) -> usize {
        [self.groups, self.out, self.rows(), self.places()]
            .into_iter()
            .fold(self.images, usize::saturating_mul)
    }

    pub(super) fn pixels(self) -> usize {
        self.size[0] * self.size[1]
    }

    pub(super) fn places(self) -> usize {
        self.positions[0] * self.positions[1]
    }

    /// Sizes of the convolution of values that makes the gradient of images, where it is one: with kernels turned around.
    pub(super) fn around(self) -> Option<Self> {
        let Moves { padding, stride, dilation } = self.moves;
        let span = |i: usize| (dilation[i] * (self.taps[i] - 1)).checked_sub(padding[i]);
        let moves = Moves { padding: [span(0)?, span(1)?], stride, dilation };
        (stride == [1, 1]).then_some(Self {
            moves,
            channels: self.out,
            out: self.channels,
            size: self.positions,
            positions: self.size,
            ..self
        })
    }

    /// How many images are taken at a time: parts of about one size, whatever the number of threads.
    pub(super) fn each(self) -> usize {
        let most = (COLUMNS / (self.rows() * self.places()).max(1)).clamp(1, self.images.max(1));
        self.images.div_ceil(self.images.div_ceil(most).max(1)).max(1)
    }

    /// Hands each few images of `out`, which has `len` elements of an image, to `part`, with the first of them, memory that is used
    /// again, and how many threads there are for it.
    pub(super) fn each_part<T: Float, X: Pixel>(
        self,
        out: &mut [T],
        len: usize,
        part: impl Fn(usize, &mut [T], &mut (Vec<T>, Vec<X>), Threads) + Sync + Send,
    ) {
        let each = self.each();
        let new = || (Vec::new(), Vec::new());
        if self.images > each {
            let parts = out.chunks_mut(each * len).enumerate().collect();
            Threads::All.share_out_with(new, parts, |memory, (i, out)| {
                part(i * each, out, memory, Threads::One);
            });
        } else {
            part(0, out, &mut new(), Threads::All);
        }
    }

    /// The planes of a group of an image among all that have `channels` in a group and `size` elements each.
    fn planes<T>(self, x: &[T], image: usize, group: usize, channels: usize, size: usize) -> &[T] {
        let len = channels * size;
        &x[(image * self.groups + group) * len..][..len]
    }

    /// What images hold of the values of a group, side by side, as a matrix of `out` rows.
    pub(super) fn values<'a, T: Pixel>(
        self,
        values: &'a [T],
        (first, count, group): (usize, usize, usize),
        memory: &'a mut Vec<T>,
    ) -> &'a [T] {
        let places = self.places();
        if count == 1 {
            return self.planes(values, first, group, self.out, places);
        }
        memory.resize(self.out * count * places, T::default());
        for (row, to) in memory.chunks_exact_mut(count * places).enumerate() {
            for (i, to) in to.chunks_exact_mut(places).enumerate() {
                let from = self.planes(values, first + i, group, self.out, places);
                to.copy_from_slice(&from[row * places..][..places]);
            }
        }
        memory
    }

    /// Adds what `columns` has for each pixel of a channel.
    pub(super) fn add_up<T: Float>(self, columns: &[T], width: usize, channel: usize, plane: &mut [T]) {
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
    pub(super) fn tap(self, row: usize) -> (usize, [usize; 2]) {
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

/// Does `work` on each `len` elements, with their number: too short to be handed out one by one.
pub(super) fn each_of<T: Send>(
    x: &mut [T],
    len: usize,
    threads: Threads,
    work: impl Fn((usize, &mut [T])) + Sync + Send,
) {
    match threads {
        Threads::One => x.chunks_exact_mut(len).enumerate().for_each(work),
        Threads::All => x.par_chunks_exact_mut(len).enumerate().for_each(work),
    }
}
