//! What a batch norm on the CPU reads and writes: blocks of a channel, in f64.

use rayon::prelude::*;

use super::{Norm, OP};
use crate::buffer::{In, Out, Ran, SliceMut, Why};
use crate::{Floats, Real};

/// Elements that are worked on at a time.
pub(super) const BLOCK: usize = 512;

/// Elements that are worth another task.
pub(super) const TASK: usize = 8 * 1024;

pub(super) type Block = [f64; BLOCK];

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

/// The elements of a channel that lie one after another, each time as the index of the first and how many there are.
pub(super) fn blocks(norm: Norm, channel: usize) -> impl Iterator<Item = (usize, usize)> {
    let (dims, inner) = (norm.dims, norm.dims.inner);
    (0..dims.outer).flat_map(move |outer| {
        let first = (outer * dims.channels + channel) * inner;
        (0..inner).step_by(BLOCK).map(move |at| (first + at, BLOCK.min(inner - at)))
    })
}

/// `f` of every channel.
pub(super) fn by_channel<T: Send>(norm: Norm, f: impl Fn(usize) -> T + Sync + Send) -> Vec<T> {
    let each = norm.dims.outer * norm.dims.inner;
    let channels = (0..norm.dims.channels).into_par_iter();
    channels.with_min_len((TASK / each.max(1)).max(1)).map(f).collect()
}

/// The sum of a block.
pub(super) fn sum(block: &[f64]) -> f64 {
    let (groups, rest) = block.as_chunks::<8>();
    let mut lanes = [0.; 8];
    for group in groups {
        lanes.iter_mut().zip(group).for_each(|(lane, x)| *lane += x);
    }
    lanes.iter().chain(rest).sum()
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
