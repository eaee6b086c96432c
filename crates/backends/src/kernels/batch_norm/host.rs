//! On the CPU: a channel after the other for sums, a plane after the other for what is written, on as many threads as are worth
//! it. All arithmetic is f64, of several elements at once.

use std::ops::Range;

use super::blocks::{Block, Fill, Fold, NONE, Read, by_channel, fill, fold, ran, write};
use super::{Centre, GradientsOut, Inputs, Norm, OP, Then};
use crate::buffer::{In, Out, Ran, Slice, SliceMut, Why};
use crate::{Floats, Real};

pub(super) fn moments(norm: Norm, x: &In<'_>, [statistics, mean, var]: [&mut Out<'_>; 3]) -> Ran {
    let Some(x) = Read::of(x) else { return Ran::Composed(Why::Layout("x")) };
    let count = (norm.dims.outer * norm.dims.inner) as f64;
    let found: Vec<[f64; 2]> = by_channel(norm, |channel| {
        // From the first element, so that a large mean costs no digits.
        let first = Some(x.at(channel * norm.dims.inner)).filter(|first| first.is_finite()).unwrap_or(0.);
        let [moved] = fold(norm, channel, Deviations { x, from: first });
        let centre = if norm.centre == Centre::Mean { first + moved / count } else { 0. };
        let [squares] = fold(norm, channel, Squares { x, centre });
        [first + moved / count, squares]
    });
    let part = |f: &dyn Fn(&[f64; 2]) -> f64| found.iter().map(f).collect::<Vec<f64>>();
    let centre = part(&|[mean, _]| if norm.centre == Centre::Mean { *mean } else { 0. });
    let scale = part(&|[_, squares]| 1. / (squares / count + norm.eps).sqrt());
    ran(write(&[centre, scale].concat(), statistics)
        && write(&part(&|[mean, _]| *mean), mean)
        && write(&part(&|[_, squares]| squares / (count - 1.)), var))
}

#[derive(Clone, Copy)]
struct Deviations<'a> {
    x: Read<'a>,
    from: f64,
}

impl Fold<1> for Deviations<'_> {
    #[inline(always)]
    fn terms(&self, at: usize, [to]: [&mut [f64]; 1]) {
        self.x.load(at, to);
        to.iter_mut().for_each(|x| *x -= self.from);
    }
}

#[derive(Clone, Copy)]
struct Squares<'a> {
    x: Read<'a>,
    centre: f64,
}

impl Fold<1> for Squares<'_> {
    #[inline(always)]
    fn terms(&self, at: usize, [to]: [&mut [f64]; 1]) {
        self.x.load(at, to);
        to.iter_mut().for_each(|x| *x = (*x - self.centre) * (*x - self.centre));
    }
}

/// A channel's normalisation: `(x − centre) · scale · weight + bias`.
#[derive(Clone, Copy)]
struct Channel {
    centre: f64,
    scale: f64,
    weight: f64,
    bias: f64,
}

impl Channel {
    #[inline(always)]
    fn of(self, x: f64) -> f64 {
        (x - self.centre) * self.scale * self.weight + self.bias
    }
}

/// A NaN is not below.
#[inline(always)]
fn relu(x: f64) -> f64 {
    if x <= 0. { 0. } else { x }
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

    /// The largest number that the type of `x` takes for 0: half of the least above it.
    fn rounds_to_zero(&self) -> f64 {
        match self.x.0 {
            Floats::F16(_) => 2f64.powi(-25),
            Floats::Bf16(_) => 2f64.powi(-134),
            Floats::F32(_) => 2f64.powi(-150),
            Floats::F64(_) => 0.,
        }
    }
}

/// The values, before they are rounded.
struct Values<'a>(&'a Operands<'a>);

impl Fill for Values<'_> {
    #[inline(always)]
    fn block(&self, channel: usize, at: usize, to: &mut [f64], scratch: &mut [Block; 2]) {
        let (of, channel) = (self.0, self.0.channels[channel]);
        of.x.load(at, to);
        let [plus, _] = scratch;
        let plus = of.beside.map(|beside| {
            let plus = &mut plus[..to.len()];
            beside.load(at, plus);
            &*plus
        });
        // Each in one loop: a number that is left or replaced where it lies becomes a store with a mask, which is slow on some processors.
        match (plus, of.norm.then) {
            (None, Then::Nothing) => to.iter_mut().for_each(|x| *x = channel.of(*x)),
            (None, Then::Relu) => to.iter_mut().for_each(|x| *x = relu(channel.of(*x))),
            (Some(plus), Then::Nothing) => {
                to.iter_mut().zip(plus).for_each(|(x, plus)| *x = channel.of(*x) + plus);
            }
            (Some(plus), Then::Relu) => {
                to.iter_mut().zip(plus).for_each(|(x, plus)| *x = relu(channel.of(*x) + plus));
            }
        }
    }
}

pub(super) fn apply(norm: Norm, inputs: Inputs<'_, '_>, statistics: &In<'_>, y: &mut Out<'_>) -> Ran {
    let Some(of) = Operands::of(norm, inputs, statistics) else { return Ran::Composed(Why::Layout("x")) };
    ran(fill(norm.dims, y, &Values(&of)))
}

/// The gradient of the value, where the relu let it pass.
struct Passed<'a> {
    of: &'a Operands<'a>,
    dy: Read<'a>,
    zero: f64,
}

impl Fill for Passed<'_> {
    #[inline(always)]
    fn block(&self, channel: usize, at: usize, to: &mut [f64], scratch: &mut [Block; 2]) {
        let of = self.of;
        if of.norm.then != Then::Relu {
            return self.dy.load(at, to);
        }
        let [value, grad] = scratch.each_mut().map(|block| &mut block[..to.len()]);
        self.dy.load(at, grad);
        match of.beside {
            Some(beside) => {
                beside.load(at, value);
                let to = to.iter_mut().zip(&*grad).zip(&*value);
                to.for_each(|((to, &g), &value)| *to = if value <= 0. { 0. } else { g });
            }
            None => {
                let (channel, zero) = (of.channels[channel], self.zero);
                of.x.load(at, value);
                let to = to.iter_mut().zip(&*grad).zip(&*value);
                to.for_each(|((to, &g), &x)| *to = if channel.of(x) <= zero { 0. } else { g });
            }
        }
    }
}

/// What the gradient of the value comes to over a channel, and over what was normalised.
struct Sums<'a> {
    passed: &'a Passed<'a>,
    channel: usize,
}

impl Fold<2> for Sums<'_> {
    #[inline(always)]
    fn terms(&self, at: usize, [grads, along]: [&mut [f64]; 2]) {
        let of = self.passed.of;
        let Channel { centre, scale, .. } = of.channels[self.channel];
        let mut scratch = [NONE; 2];
        self.passed.block(self.channel, at, grads, &mut scratch);
        of.x.load(at, along);
        along.iter_mut().zip(&*grads).for_each(|(x, g)| *x = (*x - centre) * scale * g);
    }
}

/// The gradient of `x`, from what [`Sums`] come to of each channel, over their number.
struct OfX<'a> {
    passed: &'a Passed<'a>,
    means: Vec<[f64; 2]>,
}

impl Fill for OfX<'_> {
    #[inline(always)]
    fn block(&self, channel: usize, at: usize, to: &mut [f64], scratch: &mut [Block; 2]) {
        let of = self.passed.of;
        let Channel { centre, scale, weight, .. } = of.channels[channel];
        let [mean, along] = self.means[channel];
        let mean = if of.norm.centre == Centre::Mean { mean } else { 0. };
        self.passed.block(channel, at, to, scratch);
        let x = &mut scratch[0][..to.len()];
        of.x.load(at, x);
        let (factor, slope) = (scale * weight, scale * along);
        to.iter_mut().zip(&*x).for_each(|(g, &x)| *g = factor * (*g - mean - (x - centre) * slope));
    }
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
    let passed = Passed { of: &of, dy, zero: of.rounds_to_zero() };
    let sums = by_channel(norm, |channel| fold(norm, channel, Sums { passed: &passed, channel }));
    let count = (norm.dims.outer * norm.dims.inner) as f64;
    let part = |which: usize| sums.iter().map(|sums| sums[which]).collect::<Vec<_>>();
    let of_x = OfX { passed: &passed, means: sums.iter().map(|sums| sums.map(|sum| sum / count)).collect() };
    let GradientsOut { x, passed: let_through, weight, bias } = grads;
    ran(x.is_none_or(|out| fill(norm.dims, out, &of_x))
        && let_through.is_none_or(|out| fill(norm.dims, out, &passed))
        && weight.is_none_or(|out| write(&part(1), out))
        && bias.is_none_or(|out| write(&part(0), out)))
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
