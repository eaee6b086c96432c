//! What a batch norm on the CPU reads and writes: blocks of a channel, in f64, which are folded into sums or filled and rounded.

use rayon::prelude::*;

use super::{Dims, Norm, OP};
use crate::buffer::{In, Out, Ran, SliceMut, Why};
use crate::simd::{Isa, LANES, Simd, Work};
use crate::{Element, Floats, Real, Store};
use std::marker::PhantomData;

/// Elements that are worked on at a time.
pub(super) const BLOCK: usize = 256;

/// Elements that are worth another task.
pub(super) const TASK: usize = 8 * 1024;

pub(super) type Block = [f64; BLOCK];

/// A block to be written.
pub(super) const NONE: Block = [0.; BLOCK];

/// What is read, in f64.
#[derive(Clone, Copy)]
pub(super) struct Read<'a>(pub(super) Floats<'a>);

impl<'a> Read<'a> {
    pub(super) fn of(x: &In<'a>) -> Option<Self> {
        x.host_slice()?.floats().map(Self)
    }

    pub(super) fn optional(x: Option<&In<'a>>) -> Option<Option<Self>> {
        x.map_or(Some(None), |x| Self::of(x).map(Some))
    }

    /// As many elements as `to` has, from an index on.
    #[inline(always)]
    pub(super) fn load(self, at: usize, to: &mut [f64]) {
        if let Some(part) = self.0.get(at..at + to.len()) {
            f64::load(part, to);
        }
    }

    pub(super) fn at(self, index: usize) -> f64 {
        let mut one = [0.];
        self.load(index, &mut one);
        one[0]
    }
}

/// Terms of `N` sums over elements.
pub(super) trait Fold<const N: usize> {
    /// The terms of as many elements as each of `to` has, from an index on.
    fn terms(&self, at: usize, to: [&mut [f64]; N]);
}

/// The sums over a channel.
pub(super) fn fold<const N: usize>(norm: Norm, channel: usize, of: impl Fold<N>) -> [f64; N] {
    Isa::best().run(Folded { dims: norm.dims, channel, of })
}

struct Folded<const N: usize, F> {
    dims: Dims,
    channel: usize,
    of: F,
}

impl<const N: usize, F: Fold<N>> Work for Folded<N, F> {
    type Output = [f64; N];

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> [f64; N] {
        let Dims { outer, channels, inner } = self.dims;
        let (mut blocks, mut lanes) = ([NONE; N], [[0.; LANES]; N]);
        for row in 0..outer {
            let first = (row * channels + self.channel) * inner;
            for from in (0..inner).step_by(BLOCK) {
                let len = BLOCK.min(inner - from);
                self.of.terms(first + from, blocks.each_mut().map(|block| &mut block[..len]));
                for (lanes, block) in lanes.iter_mut().zip(&blocks) {
                    add(lanes, &block[..len]);
                }
            }
        }
        lanes.map(|lanes| lanes.iter().sum())
    }
}

#[inline(always)]
fn add(lanes: &mut [f64; LANES], block: &[f64]) {
    let (groups, rest) = block.as_chunks::<LANES>();
    for group in groups {
        lanes.iter_mut().zip(group).for_each(|(lane, x)| *lane += x);
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, x)| *lane += x);
}

/// A number of each element of a channel.
pub(super) trait Fill: Sync {
    /// Those of as many elements as `to` has, from an index on.
    fn block(&self, channel: usize, at: usize, to: &mut [f64], scratch: &mut [Block; 2]);
}

/// Writes a number of each element.
pub(super) fn fill(dims: Dims, out: &mut Out<'_>, of: &impl Fill) -> bool {
    match out.host_slice() {
        Some(SliceMut::F16(out)) => planes::<f32, _>(dims, out, of),
        Some(SliceMut::Bf16(out)) => planes::<f32, _>(dims, out, of),
        Some(SliceMut::F32(out)) => planes::<f32, _>(dims, out, of),
        Some(SliceMut::F64(out)) => planes::<f64, _>(dims, out, of),
        _ => return false,
    }
    true
}

fn planes<A: Real, T: Store<A>>(dims: Dims, out: &mut [T], of: &impl Fill) {
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

impl<A: Real, T: Store<A>, F: Fill> Work for Planes<'_, T, A, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Dims { channels, inner, .. } = self.dims;
        let (mut block, mut scratch, mut narrow) = (NONE, [NONE; 2], [A::ZERO; BLOCK]);
        for (plane, out) in (self.first..).zip(self.out.chunks_mut(inner)) {
            for (i, out) in out.chunks_mut(BLOCK).enumerate() {
                let (block, narrow) = (&mut block[..out.len()], &mut narrow[..out.len()]);
                self.of.block(plane % channels, plane * inner + i * BLOCK, block, &mut scratch);
                A::load(f64::floats(block), narrow);
                T::store(narrow, out);
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
