//! What a batch norm on the CPU reads and writes: blocks of a channel, in the type of the arithmetic, which are folded into sums or filled and
//! rounded.

use rayon::prelude::*;

use super::{Dims, Norm, OP};
use crate::buffer::{In, Out, Ran, Scalar, SliceMut, Why};
use crate::simd::convert::Stored;
use crate::simd::rows::SUMS;
use crate::simd::{Isa, Simd, Work};
use crate::{Element, Floats, Real};
use std::marker::PhantomData;

/// Elements that are worked on at a time.
pub(super) const BLOCK: usize = 256;

/// Elements that are worth another task.
pub(super) const TASK: usize = 8 * 1024;

/// Sums that are taken side by side.
type Lanes = [f64; SUMS];

/// The type of the arithmetic: f32, or f64 for what is of f64 or has factors that f32 does not hold.
pub(super) trait Arithmetic: Real + Scalar {
    /// A block to be written.
    const NONE: [Self; BLOCK] = [Self::ZERO; BLOCK];

    /// A number in two parts, the smaller one last.
    fn split(x: f64) -> [Self; 2];

    /// Adds each term to the sum in its lane. Of f32, up to four terms are added in f32 first.
    fn gather(lanes: &mut Lanes, block: &[Self]);

    /// Writes a number of each element; whether it did.
    fn fill(dims: Dims, out: SliceMut<'_>, of: &impl Fill<Self>) -> bool;
}

impl Arithmetic for f32 {
    #[inline(always)]
    fn split(x: f64) -> [f32; 2] {
        crate::simd::rows::split(x).into()
    }

    #[inline(always)]
    fn gather(lanes: &mut Lanes, block: &[f32]) {
        let (groups, rest) = block.as_chunks::<SUMS>();
        if let Some((first, others)) = groups.split_first() {
            let mut short = *first;
            for group in others {
                short.iter_mut().zip(group).for_each(|(sum, x)| *sum += x);
            }
            lanes.iter_mut().zip(short).for_each(|(lane, sum)| *lane += f64::from(sum));
        }
        lanes.iter_mut().zip(rest).for_each(|(lane, &x)| *lane += f64::from(x));
    }

    fn fill(dims: Dims, out: SliceMut<'_>, of: &impl Fill<f32>) -> bool {
        match out {
            SliceMut::F16(out) => planes(dims, out, of),
            SliceMut::Bf16(out) => planes(dims, out, of),
            SliceMut::F32(out) => planes(dims, out, of),
            _ => return false,
        }
        true
    }
}

impl Arithmetic for f64 {
    #[inline(always)]
    fn split(x: f64) -> [f64; 2] {
        [x, 0.]
    }

    #[inline(always)]
    fn gather(lanes: &mut Lanes, block: &[f64]) {
        let (groups, rest) = block.as_chunks::<SUMS>();
        for group in groups {
            lanes.iter_mut().zip(group).for_each(|(lane, x)| *lane += x);
        }
        lanes.iter_mut().zip(rest).for_each(|(lane, x)| *lane += x);
    }

    fn fill(dims: Dims, out: SliceMut<'_>, of: &impl Fill<f64>) -> bool {
        match out {
            SliceMut::F16(out) => planes(dims, out, &Narrow(of)),
            SliceMut::Bf16(out) => planes(dims, out, &Narrow(of)),
            SliceMut::F32(out) => planes(dims, out, &Narrow(of)),
            SliceMut::F64(out) => planes(dims, out, of),
            _ => return false,
        }
        true
    }
}

/// What is read.
#[derive(Clone, Copy)]
pub(super) struct Read<'a>(pub(super) Floats<'a>);

impl<'a> Read<'a> {
    pub(super) fn of(x: &In<'a>) -> Option<Self> {
        x.host_slice()?.floats().map(Self)
    }

    pub(super) fn optional(x: Option<&In<'a>>) -> Option<Option<Self>> {
        x.map_or(Some(None), |x| Self::of(x).map(Some))
    }

    /// As many elements as `buffer` has, from an index on: where they lie if they are of the type, else there.
    #[inline(always)]
    pub(super) fn seen<'b, A: Arithmetic>(self, at: usize, buffer: &'b mut [A]) -> &'b [A]
    where
        'a: 'b,
    {
        let Some(part) = self.0.get(at..at + buffer.len()) else { return buffer };
        if let Some(own) = A::read(part.into()) {
            return own;
        }
        A::load(part, buffer);
        buffer
    }

    pub(super) fn at(self, index: usize) -> f64 {
        self.seen::<f64>(index, &mut [0.])[0]
    }
}

/// Terms of `N` sums over elements.
pub(super) trait Fold<A, const N: usize> {
    /// The terms of as many elements as each of `to` has, from an index on.
    fn terms(&self, at: usize, to: [&mut [A]; N]);
}

/// The sums over a channel.
pub(super) fn fold<A: Arithmetic, const N: usize>(
    norm: Norm,
    channel: usize,
    of: impl Fold<A, N>,
) -> [f64; N] {
    Isa::best().run(Folded { dims: norm.dims, channel, of, by_way_of: PhantomData::<A> })
}

struct Folded<const N: usize, A, F> {
    dims: Dims,
    channel: usize,
    of: F,
    by_way_of: PhantomData<A>,
}

impl<const N: usize, A: Arithmetic, F: Fold<A, N>> Work for Folded<N, A, F> {
    type Output = [f64; N];

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> [f64; N] {
        let Dims { outer, channels, inner } = self.dims;
        let (mut blocks, mut lanes) = ([A::NONE; N], [[0.; SUMS]; N]);
        for row in 0..outer {
            let first = (row * channels + self.channel) * inner;
            for from in (0..inner).step_by(BLOCK) {
                let len = BLOCK.min(inner - from);
                self.of.terms(first + from, blocks.each_mut().map(|block| &mut block[..len]));
                for (lanes, block) in lanes.iter_mut().zip(&blocks) {
                    A::gather(lanes, &block[..len]);
                }
            }
        }
        lanes.map(|lanes| lanes.iter().sum())
    }
}

/// A number of each element of a channel.
pub(super) trait Fill<A>: Sync {
    /// Those of as many elements as `to` has, from an index on.
    fn block(&self, channel: usize, at: usize, to: &mut [A], scratch: &mut [[A; BLOCK]; 2]);
}

/// What is computed in f64, in f32.
struct Narrow<'a, F>(&'a F);

impl<F: Fill<f64>> Fill<f32> for Narrow<'_, F> {
    #[inline(always)]
    fn block(&self, channel: usize, at: usize, to: &mut [f32], _: &mut [[f32; BLOCK]; 2]) {
        let (mut wide, mut scratch) = (f64::NONE, [f64::NONE; 2]);
        let wide = &mut wide[..to.len()];
        self.0.block(channel, at, wide, &mut scratch);
        f32::load(f64::floats(wide), to);
    }
}

/// Writes a number of each element.
pub(super) fn fill<A: Arithmetic>(dims: Dims, out: &mut Out<'_>, of: &impl Fill<A>) -> bool {
    out.host_slice().is_some_and(|out| A::fill(dims, out, of))
}

fn planes<A: Arithmetic, T: Stored<A>>(dims: Dims, out: &mut [T], of: &impl Fill<A>) {
    let each = (TASK / dims.inner).max(1);
    let tasks = out.par_chunks_mut(each * dims.inner).enumerate();
    tasks.for_each(|(i, out)| {
        Isa::best().run(Planes { dims, first: i * each, out, of, by_way_of: PhantomData::<A> });
    });
}

/// Planes from one on.
struct Planes<'a, T, A, F> {
    dims: Dims,
    first: usize,
    out: &'a mut [T],
    of: &'a F,
    by_way_of: PhantomData<A>,
}

impl<A: Arithmetic, T: Stored<A>, F: Fill<A>> Work for Planes<'_, T, A, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Dims { channels, inner, .. } = self.dims;
        let (mut block, mut scratch) = (A::NONE, [A::NONE; 2]);
        for (plane, out) in (self.first..).zip(self.out.chunks_mut(inner)) {
            for (i, out) in out.chunks_mut(BLOCK).enumerate() {
                let (channel, at) = (plane % channels, plane * inner + i * BLOCK);
                match T::in_place(out) {
                    Some(out) => self.of.block(channel, at, out, &mut scratch),
                    None => {
                        let block = &mut block[..out.len()];
                        self.of.block(channel, at, block, &mut scratch);
                        T::write(simd, block, out);
                    }
                }
            }
        }
    }
}

/// `f` of every channel.
pub(super) fn by_channel<T: Send>(norm: Norm, f: impl Fn(usize) -> T + Sync + Send) -> Vec<T> {
    let each = norm.dims.outer * norm.dims.inner;
    let channels = (0..norm.dims.channels).into_par_iter();
    channels.with_min_len((TASK / each.max(1)).max(1)).map(f).collect()
}

pub(super) fn write_all<T>(numbers: &[f64], to: &mut [T], of: impl Fn(f64) -> T) {
    to.iter_mut().zip(numbers).for_each(|(to, &x)| *to = of(x));
}

/// Writes numbers of each channel in f32 or f64.
pub(super) fn write(numbers: &[f64], out: &mut Out<'_>) -> bool {
    match out.host_slice() {
        Some(SliceMut::F32(out)) => write_all(numbers, out, |x| x as f32),
        Some(SliceMut::F64(out)) => write_all(numbers, out, |x| x),
        _ => return false,
    }
    true
}

/// Whether all was written.
pub(super) fn ran(written: bool) -> Ran {
    if written { Ran::Kernel(OP) } else { Ran::Composed(Why::Dtype("an output")) }
}
