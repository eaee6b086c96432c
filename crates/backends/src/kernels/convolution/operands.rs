//! Images as operands of a product, packed from where they lie: no matrix of columns is made.

use super::sizes::Sizes;
use crate::heap::{Number, fresh};
use crate::kernels::product::{InPlace, Matrix, Operand, Source, Term, turned};
use crate::simd::Simd;
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;

/// Numbers of a lane that are gathered before they are turned.
const GATHERED: usize = 32;
/// Numbers of a lane of which the kernel's gradient is summed in place.
pub(super) const MANY: usize = 256;
/// Lanes of a panel, and numbers of a term, at most.
const LANES: usize = 16;
const NUMBERS: usize = 2;

/// A type of pixels.
pub(super) trait Pixel: Number + Default + Send + Sync {}

impl<T: Number + Default + Send + Sync> Pixel for T {}

/// Images with their padding, so that every tap stands on a pixel.
pub(super) struct Padded<'a, T: Clone> {
    s: Sizes,
    pixels: Cow<'a, [T]>,
    size: [usize; 2],
    /// Where each position of all images begins in the planes of the first group.
    places: Vec<usize>,
    /// For each tap of each channel, where it lies from where a position begins.
    taps: Vec<usize>,
}

impl<'a, T: Pixel> Padded<'a, T> {
    pub(super) fn new(s: Sizes, image: &'a [T]) -> Self {
        let [above, before] = s.moves.padding;
        let size = [s.size[0] + 2 * above, s.size[1] + 2 * before];
        let [down, along] = s.moves.dilation;
        let place =
            |(channel, [i, j]): (usize, [usize; 2])| (channel * size[0] + i * down) * size[1] + j * along;
        let taps = (0..s.rows()).map(|row| place(s.tap(row))).collect();
        let [rows, columns] = s.positions;
        let mut places = Vec::with_capacity(s.images * s.places());
        for row in (0..s.images).flat_map(|image| (0..rows).map(move |p| (image * s.groups * s.channels, p)))
        {
            let first = place((row.0, [0, 0])) + row.1 * s.moves.stride[0] * size[1];
            places.extend((0..columns).map(|q| first + q * s.moves.stride[1]));
        }
        if size == s.size {
            return Self { s, pixels: Cow::Borrowed(image), size, places, taps };
        }
        let mut pixels = fresh(s.images * s.groups * s.channels * size[0] * size[1]);
        let planes = pixels.par_chunks_exact_mut(size[0] * size[1]).zip(image.par_chunks_exact(s.pixels()));
        planes.with_min_len(8).for_each(|(mut to, from)| {
            let zeros = [T::default(); LANES];
            let mut border = above * size[1] + before;
            for row in (0..from.len()).step_by(s.size[1]) {
                // What is written beyond the border is written again.
                (0..border)
                    .step_by(LANES)
                    .for_each(|at| copied(&zeros, LANES.min(border - at), &mut to[at..]));
                to = &mut to[border..];
                copied(&from[row..], s.size[1], to);
                to = &mut to[s.size[1]..];
                border = 2 * before;
            }
            to.fill(T::default());
        });
        Self { s, pixels: Cow::Owned(pixels), size, places, taps }
    }

    /// The pixels of a group's images.
    pub(super) fn group(&self, group: usize) -> Pixels<'_, T> {
        let planes = group * self.s.channels * self.size[0] * self.size[1];
        Pixels { s: self.s, x: &self.pixels[planes..], places: &self.places, taps: &self.taps }
    }
}

/// Where taps and positions lie among padded images.
#[derive(Clone, Copy)]
pub(super) struct Pixels<'a, T> {
    s: Sizes,
    x: &'a [T],
    places: &'a [usize],
    taps: &'a [usize],
}

/// Positions that are side by side in a row: of so many numbers from one on, the first of which lies here.
#[derive(Clone, Copy)]
struct Piece {
    at: usize,
    len: usize,
    first: usize,
}

impl<T> Pixels<'_, T> {
    /// The positions of all images in a range, in pieces.
    fn pieces(&self, of: Range<usize>) -> impl Iterator<Item = Piece> {
        let Self { s, places, .. } = *self;
        let mut at = of.start;
        std::iter::from_fn(move || {
            let row = s.positions[1] - at % s.positions[1];
            let len = row.min(of.end.saturating_sub(at));
            let piece = (len > 0).then(|| Piece { at: at - of.start, len, first: places[at] });
            at += len;
            piece
        })
    }
}

/// A lane for each position of all images, and a number for each tap of each channel.
#[derive(Clone, Copy)]
pub(super) struct Positions<'a, T>(pub(super) Pixels<'a, T>);

impl<E: Term, X: Source<E> + Pixel> Operand<E> for Positions<'_, X> {
    fn lanes(&self) -> usize {
        self.0.s.images * self.0.s.places()
    }

    fn numbers(&self) -> usize {
        self.0.s.rows()
    }

    fn in_place(&self) -> Option<InPlace<'_, E>> {
        Some(InPlace::new(X::as_it_is(self.0.x)?, self.0.places, self.0.taps))
    }

    #[inline(always)]
    fn pack<S: Simd, const WIDTH: usize>(
        &self,
        simd: S,
        first: usize,
        of: Range<usize>,
        to: &mut [[E; WIDTH]],
    ) {
        let Pixels { x, s, taps, .. } = self.0;
        let (lanes, stride) = (s.images * s.places(), s.moves.stride[1]);
        let (taps, terms) = (&taps[of.clone()], of.len().div_ceil(E::NUMBERS));
        let mut pieces = Vec::with_capacity(WIDTH);
        for (i, to) in to.chunks_exact_mut(terms).enumerate() {
            let (lane, to) = (first + i * WIDTH, to.as_flattened_mut());
            pieces.clear();
            pieces.extend(self.0.pieces(lane..lanes.min(lane + WIDTH)));
            let reach = pieces.last().zip(taps.last());
            let is_there = reach.is_some_and(|(piece, tap)| piece.first + tap + WIDTH <= x.len());
            // Whole vectors, whose lanes behind a piece are written again: by the next piece, or the next term.
            let whole = if stride > 1 || is_there { terms - 1 } else { 0 };
            let mut numbered = taps.chunks(E::NUMBERS).enumerate();
            for (term, taps) in numbered.by_ref().take(whole) {
                for piece in &pieces {
                    let from = &x[piece.first + taps[0]..];
                    let to = &mut to[term * WIDTH + piece.at..][..WIDTH];
                    if stride == 1 {
                        X::side_by_side(simd, from, between(taps), to);
                    } else {
                        let near = gathered(from, (piece.len, stride), between(taps));
                        X::side_by_side(simd, near.as_flattened(), (LANES, taps.len()), to);
                    }
                }
            }
            for (term, taps) in numbered {
                for piece in &pieces {
                    let near = gathered(&x[piece.first + taps[0]..], (piece.len, stride), between(taps));
                    let to = &mut to[term * WIDTH + piece.at..][..piece.len];
                    X::side_by_side(simd, near.as_flattened(), (LANES, taps.len()), to);
                }
            }
        }
    }
}

/// How far apart the numbers of a term are, and how many.
#[inline(always)]
fn between(taps: &[usize]) -> (usize, usize) {
    (taps.get(1).map_or(0, |next| next - taps[0]), taps.len())
}

/// Some lanes, so far apart, of each number of a term.
#[inline(always)]
fn gathered<X: Pixel>(
    x: &[X],
    (lanes, stride): (usize, usize),
    (apart, there): (usize, usize),
) -> [[X; LANES]; NUMBERS] {
    let mut near = [[X::default(); LANES]; NUMBERS];
    for (number, near) in near.iter_mut().enumerate().take(there) {
        let from = &x[number * apart..];
        for (lane, near) in near[..lanes].iter_mut().enumerate() {
            *near = from[lane * stride];
        }
    }
    near
}

/// Copies `len` numbers, and what is behind them up to whole vectors, where it is there.
#[inline(always)]
fn copied<X: Copy>(from: &[X], len: usize, to: &mut [X]) {
    for at in (0..len).step_by(LANES) {
        match (to[at..].first_chunk_mut::<LANES>(), from[at..].first_chunk::<LANES>()) {
            (Some(to), Some(from)) => *to = *from,
            _ => return exactly(&from[at..len], &mut to[at..len]),
        }
    }
}

/// Copies all and no more. Not part of who calls it: the compiler would make one copy of any length of this one and that of a vector.
#[cold]
#[inline(never)]
fn exactly<X: Copy>(from: &[X], to: &mut [X]) {
    to.copy_from_slice(from);
}

/// A lane for each tap of each channel, and a number for each position of all images.
#[derive(Clone, Copy)]
pub(super) struct Taps<'a, T>(pub(super) Pixels<'a, T>);

impl<E: Term, X: Source<E> + Pixel> Operand<E> for Taps<'_, X> {
    fn lanes(&self) -> usize {
        self.0.s.rows()
    }

    fn numbers(&self) -> usize {
        self.0.s.images * self.0.s.places()
    }

    fn in_place(&self) -> Option<InPlace<'_, E>> {
        // Sums of fewer are written about as often as rows are packed, and are written faster if columns stay columns.
        let many = self.0.places.len() >= MANY;
        Some(InPlace::new(X::as_it_is(self.0.x).filter(|_| many)?, self.0.taps, self.0.places))
    }

    #[inline(always)]
    fn pack<S: Simd, const WIDTH: usize>(
        &self,
        simd: S,
        first: usize,
        of: Range<usize>,
        to: &mut [[E; WIDTH]],
    ) {
        let stride = self.0.s.moves.stride[1];
        let terms = of.len().div_ceil(E::NUMBERS);
        let panels = to.len() / terms;
        let taps = &self.0.taps[first..self.0.s.rows().min(first + panels * WIDTH)];
        let mut rows = [[X::default(); GATHERED + LANES]; WIDTH];
        let mut pieces = Vec::with_capacity(GATHERED);
        for start in of.clone().step_by(GATHERED) {
            let count = GATHERED.min(of.end - start);
            pieces.clear();
            pieces.extend(self.0.pieces(start..start + count));
            for (taps, to) in taps.chunks(WIDTH).zip(to.chunks_exact_mut(terms)) {
                for (tap, row) in taps.iter().zip(&mut rows) {
                    for piece in &pieces {
                        let (from, row) = (&self.0.x[piece.first + tap..], &mut row[piece.at..]);
                        if stride == 1 {
                            copied(from, piece.len, row);
                        } else {
                            let from = from.iter().step_by(stride);
                            row[..piece.len].iter_mut().zip(from).for_each(|(to, &x)| *to = x);
                        }
                    }
                }
                let matrix = Matrix { rows: taps.len(), columns: count, row: GATHERED + LANES, column: 1 };
                let to = &mut to[(start - of.start) / E::NUMBERS..][..count.div_ceil(E::NUMBERS)];
                turned(simd, rows.as_flattened(), matrix, to);
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

impl<X> Channels<'_, X> {
    /// Where a lane's number lies, counted through the images, and how many numbers follow it there with itself.
    fn place(&self, lane: usize, number: usize) -> (usize, usize) {
        let places = self.s.places();
        let (image, place) = (number / places, number % places);
        (((image * self.s.groups + self.group) * self.s.out + lane) * places + place, places - place)
    }
}

impl<E: Term, X: Source<E> + Pixel> Operand<E> for Channels<'_, X> {
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
        to: &mut [[E; WIDTH]],
    ) {
        let terms = of.len().div_ceil(E::NUMBERS);
        for (i, to) in to.chunks_exact_mut(terms).enumerate() {
            let lane = first + i * WIDTH;
            let rows = WIDTH.min(self.s.out - lane);
            let mut at = of.start;
            while at < of.end {
                let (start, there) = self.place(lane, at);
                let columns = there.min(of.end - at);
                let ends = at + columns == of.end;
                let whole = if ends { columns } else { columns / E::NUMBERS * E::NUMBERS };
                let to = &mut to[(at - of.start) / E::NUMBERS..];
                if whole > 0 {
                    let lanes = Matrix { rows, columns: whole, row: self.s.places(), column: 1 };
                    turned(simd, &self.values[start..], lanes, &mut to[..whole.div_ceil(E::NUMBERS)]);
                    at += whole;
                    continue;
                }
                // A term whose numbers are of two images.
                let there = E::NUMBERS.min(of.end - at);
                let mut near = [[X::default(); LANES]; NUMBERS];
                for (number, near) in near.iter_mut().enumerate().take(there) {
                    for (row, near) in near.iter_mut().enumerate().take(rows) {
                        *near = self.values[self.place(lane + row, at + number).0];
                    }
                }
                X::side_by_side(simd, near.as_flattened(), (LANES, there), &mut to[0]);
                at += there;
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

impl<E: Term, X: Source<E> + Pixel> Operand<E> for Around<'_, X> {
    fn lanes(&self) -> usize {
        self.channels
    }

    fn numbers(&self) -> usize {
        self.kernel.len() / self.channels
    }

    #[inline(always)]
    fn pack<S: Simd, const WIDTH: usize>(
        &self,
        simd: S,
        first: usize,
        of: Range<usize>,
        to: &mut [[E; WIDTH]],
    ) {
        let terms = of.len().div_ceil(E::NUMBERS);
        for (i, to) in to.chunks_exact_mut(terms).enumerate() {
            let channel = first + i * WIDTH;
            let lanes = WIDTH.min(self.channels - channel);
            let (mut value, mut tap) = (of.start / self.taps, of.start % self.taps);
            for start in of.clone().step_by(GATHERED) {
                // Vectors are read some time after their lanes are written: the processor waits for what has just been.
                let mut near = [[X::default(); LANES]; GATHERED];
                let near = &mut near[..GATHERED.min(of.end - start)];
                for near in near.iter_mut() {
                    let first = (value * self.channels + channel + 1) * self.taps - 1 - tap;
                    for (lane, near) in near[..lanes].iter_mut().enumerate() {
                        *near = self.kernel[first + lane * self.taps];
                    }
                    (value, tap) = if tap + 1 == self.taps { (value + 1, 0) } else { (value, tap + 1) };
                }
                let terms = &mut to[(start - of.start) / E::NUMBERS..];
                for (numbers, to) in near.chunks(E::NUMBERS).zip(terms) {
                    X::side_by_side(simd, numbers.as_flattened(), (LANES, numbers.len()), to);
                }
            }
        }
    }
}
