//! On the CPU: a channel after the other for sums, a plane after the other for what is written, on as many threads as are worth
//! it.

use super::blocks::{Arithmetic, BLOCK, Fill, Fold, Read, by_channel, fill, fold, ran, write};
pub(super) use super::statistics::{given, moments, moved};
use super::{Centre, GradientsOut, Inputs, Norm, Then};
use crate::buffer::{In, Out, Ran, Why};
use crate::simd::rows::less;
use crate::{Floats, Real};

/// A channel's normalisation: `(x − centre) · scale · weight + bias`.
#[derive(Clone, Copy)]
struct Channel<A> {
    centre: [A; 2],
    scale: A,
    /// With the weight.
    factor: A,
    bias: A,
}

impl<A: Real> Channel<A> {
    #[inline(always)]
    fn of(self, x: A) -> A {
        less(x, self.centre) * self.factor + self.bias
    }
}

/// A NaN is not below.
#[inline(always)]
fn relu<A: Real>(x: A) -> A {
    if x <= A::ZERO { A::ZERO } else { x }
}

/// What both directions read.
struct Operands<'a> {
    norm: Norm,
    x: Read<'a>,
    beside: Option<Read<'a>>,
    /// Centre, scale, weight and bias of each channel.
    channels: Vec<[f64; 4]>,
}

impl<'a> Operands<'a> {
    fn of(norm: Norm, inputs: Inputs<'_, 'a>, statistics: &In<'a>) -> Option<Self> {
        let (weight, bias) = (Read::optional(inputs.weight)?, Read::optional(inputs.bias)?);
        let statistics = Read::of(statistics)?;
        let count = norm.dims.channels;
        let channel = |c: usize| {
            let [weight, bias] = [(weight, 1.), (bias, 0.)].map(|(of, none)| of.map_or(none, |of| of.at(c)));
            [statistics.at(c), statistics.at(count + c), weight, bias]
        };
        let (x, beside) = (Read::of(inputs.x)?, Read::optional(inputs.beside)?);
        Some(Self { norm, x, beside, channels: (0..count).map(channel).collect() })
    }

    /// Whether f32 holds every factor with all its digits, and no element is wider.
    fn fit_f32(&self) -> bool {
        let held = |x: f64| x == 0. || (x as f32).is_normal() || !x.is_finite();
        let fits = |&[_, scale, weight, _]: &[f64; 4]| held(scale) && held(scale * weight);
        !matches!(self.x.0, Floats::F64(_)) && self.channels.iter().all(fits)
    }

    fn channels<A: Arithmetic>(&self) -> Vec<Channel<A>> {
        let channel = |&[centre, scale, weight, bias]: &[f64; 4]| Channel {
            centre: A::split(centre),
            scale: A::from_f64(scale),
            factor: A::from_f64(scale * weight),
            bias: A::from_f64(bias),
        };
        self.channels.iter().map(channel).collect()
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
struct Values<'a, A> {
    of: &'a Operands<'a>,
    channels: Vec<Channel<A>>,
}

impl<A: Arithmetic> Fill<A> for Values<'_, A> {
    #[inline(always)]
    fn block(&self, channel: usize, at: usize, to: &mut [A], scratch: &mut [[A; BLOCK]; 2]) {
        let (of, channel) = (self.of, self.channels[channel]);
        let [x, plus] = scratch.each_mut().map(|block| &mut block[..to.len()]);
        let x = of.x.seen(at, x);
        let plus = of.beside.map(|beside| beside.seen(at, plus));
        // Each in one loop: a number that is left or replaced where it lies becomes a store with a mask, which is slow on some processors.
        let each = to.iter_mut().zip(x);
        match (plus, of.norm.then) {
            (None, Then::Nothing) => each.for_each(|(to, &x)| *to = channel.of(x)),
            (None, Then::Relu) => each.for_each(|(to, &x)| *to = relu(channel.of(x))),
            (Some(plus), Then::Nothing) => {
                each.zip(plus).for_each(|((to, &x), &plus)| *to = channel.of(x) + plus);
            }
            (Some(plus), Then::Relu) => {
                each.zip(plus).for_each(|((to, &x), &plus)| *to = relu(channel.of(x) + plus));
            }
        }
    }
}

pub(super) fn apply(norm: Norm, inputs: Inputs<'_, '_>, statistics: &In<'_>, y: &mut Out<'_>) -> Ran {
    let Some(of) = Operands::of(norm, inputs, statistics) else { return Ran::Composed(Why::Layout("x")) };
    ran(match of.fit_f32() {
        true => fill(norm.dims, y, &Values::<f32> { of: &of, channels: of.channels() }),
        false => fill(norm.dims, y, &Values::<f64> { of: &of, channels: of.channels() }),
    })
}

/// The gradient of the value, where the relu let it pass.
struct Passed<'a, A> {
    of: &'a Operands<'a>,
    channels: Vec<Channel<A>>,
    dy: Read<'a>,
    zero: A,
}

impl<A: Arithmetic> Fill<A> for Passed<'_, A> {
    #[inline(always)]
    fn block(&self, channel: usize, at: usize, to: &mut [A], scratch: &mut [[A; BLOCK]; 2]) {
        let of = self.of;
        let [value, grad] = scratch.each_mut().map(|block| &mut block[..to.len()]);
        let grad = self.dy.seen(at, grad);
        let each = to.iter_mut().zip(grad);
        match (of.norm.then, of.beside) {
            (Then::Nothing, _) => each.for_each(|(to, &g)| *to = g),
            (Then::Relu, Some(beside)) => {
                let value = beside.seen(at, value);
                each.zip(value).for_each(|((to, &g), &v)| *to = if v <= A::ZERO { A::ZERO } else { g });
            }
            (Then::Relu, None) => {
                let (channel, zero) = (self.channels[channel], self.zero);
                let x = of.x.seen(at, value);
                each.zip(x).for_each(|((to, &g), &x)| {
                    *to = if channel.of(x) <= zero { A::ZERO } else { g };
                });
            }
        }
    }
}

/// What the gradient of the value comes to over a channel, and over what was normalised.
struct Sums<'a, A> {
    passed: &'a Passed<'a, A>,
    channel: usize,
}

impl<A: Arithmetic> Fold<A, 2> for Sums<'_, A> {
    #[inline(always)]
    fn terms(&self, at: usize, [grads, along]: [&mut [A]; 2]) {
        let Channel { centre, scale, .. } = self.passed.channels[self.channel];
        let mut scratch = [A::NONE; 2];
        self.passed.block(self.channel, at, grads, &mut scratch);
        let x = self.passed.of.x.seen(at, &mut scratch[0][..grads.len()]);
        for ((along, &x), &g) in along.iter_mut().zip(x).zip(&*grads) {
            *along = less(x, centre) * scale * g;
        }
    }
}

/// The gradient of `x`, from what [`Sums`] come to of each channel, over their number.
struct OfX<'a, A> {
    passed: &'a Passed<'a, A>,
    means: Vec<[f64; 2]>,
}

impl<A: Arithmetic> Fill<A> for OfX<'_, A> {
    #[inline(always)]
    fn block(&self, channel: usize, at: usize, to: &mut [A], scratch: &mut [[A; BLOCK]; 2]) {
        let of = self.passed.of;
        let ([mean, along], Channel { centre, scale, factor, .. }) =
            (self.means[channel], self.passed.channels[channel]);
        let mean = A::from_f64(if of.norm.centre == Centre::Mean { mean } else { 0. });
        let slope = scale * A::from_f64(along);
        self.passed.block(channel, at, to, scratch);
        let x = of.x.seen(at, &mut scratch[0][..to.len()]);
        to.iter_mut().zip(x).for_each(|(g, &x)| *g = factor * (*g - mean - less(x, centre) * slope));
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
    let zero = of.rounds_to_zero();
    ran(match of.fit_f32() && !matches!(dy.0, Floats::F64(_)) {
        // 2⁻¹⁵⁰ is none of f32: there 0 is 0.
        true => Passed::<f32> { of: &of, channels: of.channels(), dy, zero: zero as f32 }.gradients(grads),
        false => Passed::<f64> { of: &of, channels: of.channels(), dy, zero }.gradients(grads),
    })
}

impl<A: Arithmetic> Passed<'_, A> {
    /// Whether all were written.
    fn gradients(&self, grads: GradientsOut<'_, '_>) -> bool {
        let norm = self.of.norm;
        let sums = by_channel(norm, |channel| fold(norm, channel, Sums { passed: self, channel }));
        let count = (norm.dims.outer * norm.dims.inner) as f64;
        let part = |which: usize| sums.iter().map(|sums| sums[which]).collect::<Vec<_>>();
        let of_x = OfX { passed: self, means: sums.iter().map(|sums| sums.map(|sum| sum / count)).collect() };
        let GradientsOut { x, passed, weight, bias } = grads;
        x.is_none_or(|out| fill(norm.dims, out, &of_x))
            && passed.is_none_or(|out| fill(norm.dims, out, self))
            && weight.is_none_or(|out| write(&part(1), out))
            && bias.is_none_or(|out| write(&part(0), out))
    }
}
