//! On the CPU: a channel after the other for sums, a plane after the other for what is written, on as many threads as are worth
//! it. All arithmetic is f64.

use std::ops::Range;

use rayon::prelude::*;

use super::blocks::{BLOCK, Block, Read, TASK, blocks, by_channel, ran, sum, write};
use super::{Centre, GradientsOut, Inputs, Norm, OP, Then};
use crate::buffer::{In, Out, Ran, Slice, SliceMut, Why};
use crate::{Element, Floats, Real, Store};

pub(super) fn moments(norm: Norm, x: &In<'_>, [statistics, mean, var]: [&mut Out<'_>; 3]) -> Ran {
    let Some(x) = Read::of(x) else { return Ran::Composed(Why::Layout("x")) };
    let count = (norm.dims.outer * norm.dims.inner) as f64;
    let over = |channel: usize, f: &dyn Fn(&mut [f64])| -> f64 {
        let mut block: Block = [0.; BLOCK];
        blocks(norm, channel)
            .map(|(at, len)| {
                let block = &mut block[..len];
                x.load(at, block);
                f(block);
                sum(block)
            })
            .sum()
    };
    let found: Vec<[f64; 2]> = by_channel(norm, |channel| {
        // From the first element, so that a large mean costs no digits.
        let first = Some(x.at(channel * norm.dims.inner)).filter(|first| first.is_finite()).unwrap_or(0.);
        let moved = over(channel, &|block| block.iter_mut().for_each(|x| *x -= first)) / count;
        let centre = if norm.centre == Centre::Mean { first + moved } else { 0. };
        let squares =
            over(channel, &|block| block.iter_mut().for_each(|x| *x = (*x - centre) * (*x - centre)));
        [first + moved, squares]
    });
    let part = |f: &dyn Fn(&[f64; 2]) -> f64| found.iter().map(f).collect::<Vec<f64>>();
    let centre = part(&|[mean, _]| if norm.centre == Centre::Mean { *mean } else { 0. });
    let scale = part(&|[_, squares]| 1. / (squares / count + norm.eps).sqrt());
    ran(write(&[centre, scale].concat(), statistics)
        && write(&part(&|[mean, _]| *mean), mean)
        && write(&part(&|[_, squares]| squares / (count - 1.)), var))
}

/// A channel's normalisation.
#[derive(Clone, Copy)]
struct Channel {
    centre: f64,
    scale: f64,
    weight: f64,
    bias: f64,
}

/// What both directions read.
struct Operands<'a> {
    norm: Norm,
    x: Read<'a>,
    beside: Option<Read<'a>>,
    channels: Vec<Channel>,
}

impl<'a> Operands<'a> {
    fn of(norm: Norm, inputs: Inputs<'_, 'a>, statistics: &In<'a>) -> Option<Self> {
        let (weight, bias) = (Read::optional(inputs.weight)?, Read::optional(inputs.bias)?);
        let statistics = Read::of(statistics)?;
        let count = norm.dims.channels;
        let channel = |c: usize| Channel {
            centre: statistics.at(c),
            scale: statistics.at(count + c),
            weight: weight.map_or(1., |weight| weight.at(c)),
            bias: bias.map_or(0., |bias| bias.at(c)),
        };
        let (x, beside) = (Read::of(inputs.x)?, Read::optional(inputs.beside)?);
        Some(Self { norm, x, beside, channels: (0..count).map(channel).collect() })
    }

    /// The value, before it is rounded.
    fn values(&self, channel: usize, at: usize, to: &mut [f64]) {
        let Channel { centre, scale, weight, bias } = self.channels[channel];
        self.x.load(at, to);
        to.iter_mut().for_each(|x| *x = (*x - centre) * scale * weight + bias);
        if let Some(beside) = self.beside {
            let mut block: Block = [0.; BLOCK];
            let block = &mut block[..to.len()];
            beside.load(at, block);
            to.iter_mut().zip(&*block).for_each(|(to, plus)| *to += plus);
        }
        if self.norm.then == Then::Relu {
            // A NaN is not below.
            to.iter_mut().for_each(|x| *x = if *x <= 0. { 0. } else { *x });
        }
    }

    /// The gradient of the value, where the relu let it pass.
    fn passed(&self, dy: Read<'_>, channel: usize, at: usize, to: &mut [f64]) {
        dy.load(at, to);
        if self.norm.then != Then::Relu {
            return;
        }
        let (mut block, zero): (Block, f64) = ([0.; BLOCK], self.rounds_to_zero());
        let block = &mut block[..to.len()];
        let zero = match self.beside {
            Some(value) => {
                value.load(at, block);
                0.
            }
            None => {
                let Channel { centre, scale, weight, bias } = self.channels[channel];
                self.x.load(at, block);
                block.iter_mut().for_each(|x| *x = (*x - centre) * scale * weight + bias);
                zero
            }
        };
        to.iter_mut().zip(&*block).for_each(|(to, &value)| *to = if value <= zero { 0. } else { *to });
    }

    /// The largest number that the type of `x` takes for 0: half of the least above it.
    fn rounds_to_zero(&self) -> f64 {
        match self.x.0 {
            Floats::F16(_) => 2f64.powi(-25),
            Floats::Bf16(_) => 2f64.powi(-134),
            Floats::F32(_) => 2f64.powi(-150),
            Floats::F64(_) => 0.,
        }
    }

    /// Writes a number of each element: `compute` fills a block of a channel, from an index on.
    fn fill(&self, out: &mut Out<'_>, compute: impl Fn(usize, usize, &mut [f64]) + Sync) -> bool {
        let narrow = |block: &[f64], to: &mut [f32]| f32::load(Floats::F64(block), to);
        match out.host_slice() {
            Some(SliceMut::F16(out)) => self.fill_typed(out, compute, |b, to| through_f32(b, to, narrow)),
            Some(SliceMut::Bf16(out)) => self.fill_typed(out, compute, |b, to| through_f32(b, to, narrow)),
            Some(SliceMut::F32(out)) => self.fill_typed(out, compute, narrow),
            Some(SliceMut::F64(out)) => self.fill_typed(out, compute, |block, to| to.copy_from_slice(block)),
            _ => return false,
        }
        true
    }

    fn fill_typed<T: Element>(
        &self,
        out: &mut [T],
        compute: impl Fn(usize, usize, &mut [f64]) + Sync,
        round: impl Fn(&[f64], &mut [T]) + Sync,
    ) {
        let (inner, channels) = (self.norm.dims.inner, self.norm.dims.channels);
        let planes = out.par_chunks_mut(inner).enumerate().with_min_len((TASK / inner).max(1));
        planes.for_each(|(plane, out)| {
            let mut block: Block = [0.; BLOCK];
            for (i, out) in out.chunks_mut(BLOCK).enumerate() {
                let block = &mut block[..out.len()];
                compute(plane % channels, plane * inner + i * BLOCK, block);
                round(block, out);
            }
        });
    }
}

fn through_f32<T: Store<f32>>(block: &[f64], to: &mut [T], narrow: impl Fn(&[f64], &mut [f32])) {
    let mut narrowed = [0f32; BLOCK];
    let narrowed = &mut narrowed[..block.len()];
    narrow(block, narrowed);
    T::store(narrowed, to);
}

pub(super) fn apply(norm: Norm, inputs: Inputs<'_, '_>, statistics: &In<'_>, y: &mut Out<'_>) -> Ran {
    let Some(of) = Operands::of(norm, inputs, statistics) else { return Ran::Composed(Why::Layout("x")) };
    ran(of.fill(y, |channel, at, to| of.values(channel, at, to)))
}

pub(super) fn gradients(
    norm: Norm,
    dy: &In<'_>,
    inputs: Inputs<'_, '_>,
    statistics: &In<'_>,
    grads: GradientsOut<'_, '_>,
) -> Ran {
    let (Some(of), Some(dy)) = (Operands::of(norm, inputs, statistics), Read::of(dy)) else {
        return Ran::Composed(Why::Layout("x"));
    };
    let sums = by_channel(norm, |channel| of.sums(dy, channel));
    let count = (norm.dims.outer * norm.dims.inner) as f64;
    let GradientsOut { x, passed, weight, bias } = grads;
    let x_grad = |channel: usize, at: usize, to: &mut [f64]| {
        let Channel { centre, scale, weight, .. } = of.channels[channel];
        let [sum, along] = sums[channel].map(|sum| sum / count);
        let sum = if norm.centre == Centre::Mean { sum } else { 0. };
        let mut block: Block = [0.; BLOCK];
        let block = &mut block[..to.len()];
        of.x.load(at, block);
        of.passed(dy, channel, at, to);
        let grad = |g: f64, x: f64| scale * weight * (g - sum - (x - centre) * scale * along);
        to.iter_mut().zip(&*block).for_each(|(g, &x)| *g = grad(*g, x));
    };
    let part = |which: usize| sums.iter().map(|sums| sums[which]).collect::<Vec<_>>();
    ran(x.is_none_or(|out| of.fill(out, x_grad))
        && passed.is_none_or(|out| of.fill(out, |channel, at, to| of.passed(dy, channel, at, to)))
        && weight.is_none_or(|out| write(&part(1), out))
        && bias.is_none_or(|out| write(&part(0), out)))
}

impl Operands<'_> {
    /// What the gradient of the value comes to over a channel, and over what was normalised.
    fn sums(&self, dy: Read<'_>, channel: usize) -> [f64; 2] {
        let Channel { centre, scale, .. } = self.channels[channel];
        let (mut grads, mut xs): (Block, Block) = ([0.; BLOCK], [0.; BLOCK]);
        let mut sums = [0.; 2];
        for (at, len) in blocks(self.norm, channel) {
            let (grads, xs) = (&mut grads[..len], &mut xs[..len]);
            self.passed(dy, channel, at, grads);
            self.x.load(at, xs);
            sums[0] += sum(grads);
            xs.iter_mut().zip(&*grads).for_each(|(x, g)| *x = (*x - centre) * scale * g);
            sums[1] += sum(xs);
        }
        sums
    }
}

pub(super) fn given(eps: f64, mean: &In<'_>, var: &In<'_>, statistics: &mut Out<'_>) -> Ran {
    let (Some(mean), Some(var)) = (Read::of(mean), Read::of(var)) else {
        return Ran::Composed(Why::Layout("mean"));
    };
    let all: Range<usize> = 0..statistics.count() / 2;
    let scales = all.clone().map(|c| 1. / (var.at(c) + eps).sqrt());
    let numbers: Vec<f64> = all.clone().map(|c| mean.at(c)).chain(scales).collect();
    ran(write(&numbers, statistics))
}

pub(super) fn moved(momentum: f64, [old, fresh, guard]: [&In<'_>; 3], out: &mut Out<'_>) -> Ran {
    fn move_on<T: Real>(momentum: f64, [old, fresh, guard]: [&[T]; 3], out: &mut [T]) {
        let (keep, add) = (T::from_f64(1. - momentum), T::from_f64(momentum));
        for (i, out) in out.iter_mut().enumerate() {
            let finite = fresh[i].is_finite() && guard[i].is_finite();
            *out = if finite { old[i] * keep + fresh[i] * add } else { old[i] };
        }
    }
    match (old.host_slice(), fresh.host_slice(), guard.host_slice(), out.host_slice()) {
        (Some(Slice::F32(a)), Some(Slice::F32(b)), Some(Slice::F32(c)), Some(SliceMut::F32(out))) => {
            move_on(momentum, [a, b, c], out);
        }
        (Some(Slice::F64(a)), Some(Slice::F64(b)), Some(Slice::F64(c)), Some(SliceMut::F64(out))) => {
            move_on(momentum, [a, b, c], out);
        }
        _ => return Ran::Composed(Why::Dtype("old")),
    }
    Ran::Kernel(OP)
}
