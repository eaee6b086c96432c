//! `x σ(z)` and σ itself: gelu_tanh, silu and sigmoid.

use super::{Parts, Single, Stage, exponential, scaled, within};
use crate::simd::Simd;
use crate::simd::map::{BLOCK, Block};
use crate::simd::math::power_of_two;

/// `e^−|z|` and `1 / (1 + e^−|z|)`.
#[derive(Clone, Copy)]
struct Gate {
    e: Parts,
    n: i32,
    scaled_e: f32,
    sum: f32,
    sum_low: f32,
    one_over: f32,
}

impl Gate {
    /// Of `e^−|z|` in two parts, times `2ⁿ`.
    #[inline(always)]
    fn new((e, n): (Parts, i32)) -> Self {
        let scaled_e = scaled(e.high, n);
        let sum = 1. + scaled_e;
        let sum_low = scaled_e - (sum - 1.) + scaled(e.low, n);
        Self { e, n, scaled_e, sum, sum_low, one_over: 1. / sum }
    }

    /// `x / (1 + e^−|z|)`.
    #[inline(always)]
    fn open<S: Simd>(self, simd: S, x: f32) -> f32 {
        let q = x * self.one_over;
        let left = simd.mul_add(-q, self.sum_low, simd.mul_add(-q, self.sum, x));
        simd.mul_add(left, self.one_over, q)
    }

    /// `q e^−|z|`.
    #[inline(always)]
    fn closed<S: Simd>(self, simd: S, q: f32) -> f32 {
        scaled(simd.mul_add(q, self.e.high, q * self.e.low), self.n)
    }

    /// `x σ(z)`, where `z` has the sign of `x`.
    #[inline(always)]
    fn gated<S: Simd>(self, simd: S, x: f32, size: f32) -> f32 {
        let q = self.open(simd, size);
        let closed = -self.closed(simd, q);
        if x < 0. { closed } else { q.copysign(x) }
    }

    /// Its derivative, with `bend = |x z′|`.
    #[inline(always)]
    fn gated_slope<S: Simd>(self, simd: S, x: f32, bend: f32) -> f32 {
        let q = self.open(simd, 1.);
        let above = simd.mul_add(bend, q * self.scaled_e, 1.) * q;
        let below = self.closed(simd, simd.mul_add(-bend, q, 1.) * q);
        if x < 0. { below } else { above }
    }
}

/// `e^−|x|` for sigmoid and silu.
#[inline(always)]
fn exponentials<S: Simd>(simd: S, x: &Block<f32>) -> Stage {
    let mut stage = Stage::of(x, |x| Parts { high: -within(x, END), low: -0. });
    stage.exponentials(simd);
    stage
}

/// Beyond it `e^−|x|` is 0.
const END: f32 = 120.;

pub(super) struct Sigmoid;

impl Single for Sigmoid {
    #[inline(always)]
    fn values<S: Simd>(simd: S, x: &Block<f32>, to: &mut Block<f32>) {
        let stage = exponentials(simd, x);
        for i in 0..BLOCK {
            let gate = Gate::new(stage.at(i));
            let q = gate.open(simd, 1.);
            let closed = gate.closed(simd, q);
            to[i] = if x[i] < 0. { closed } else { q };
        }
    }

    #[inline(always)]
    fn slopes<S: Simd>(simd: S, x: &Block<f32>, to: &mut Block<f32>) {
        let stage = exponentials(simd, x);
        for (i, to) in to.iter_mut().enumerate() {
            let gate = Gate::new(stage.at(i));
            let q = gate.open(simd, 1.);
            *to = gate.closed(simd, q * q);
        }
    }
}

pub(super) struct Silu;

impl Single for Silu {
    #[inline(always)]
    fn values<S: Simd>(simd: S, x: &Block<f32>, to: &mut Block<f32>) {
        let stage = exponentials(simd, x);
        for i in 0..BLOCK {
            let value = Gate::new(stage.at(i)).gated(simd, x[i], within(x[i], END));
            to[i] = if x[i] > END { x[i] } else { value };
        }
    }

    #[inline(always)]
    fn slopes<S: Simd>(simd: S, x: &Block<f32>, to: &mut Block<f32>) {
        let stage = exponentials(simd, x);
        for i in 0..BLOCK {
            to[i] = Gate::new(stage.at(i)).gated_slope(simd, x[i], within(x[i], END));
        }
    }
}

pub(super) struct GeluTanh;

impl GeluTanh {
    const END: f32 = 12.;
    /// 0.044715, and what the f32 lacks.
    const CUBIC: [f32; 2] = [0.044_715, 1.546_144_5e-9];
    /// 2√(2/π), and what the f32 lacks.
    const SCALE: [f32; 2] = [1.595_769_2, -4.534_068e-8];

    /// `2 √(2/π) t (1 + 0.044715 t²)`.
    #[inline(always)]
    fn argument<S: Simd>(simd: S, t: f32) -> Parts {
        let square = t * t;
        let square_lost = simd.mul_add(t, t, -square);
        let cubic = Self::CUBIC[0] * square;
        let cubic_low = simd.mul_add(Self::CUBIC[0], square_lost, Self::CUBIC[1] * square);
        let cubic_lost = simd.mul_add(Self::CUBIC[0], square, -cubic) + cubic_low;
        let factor = 1. + cubic;
        let added = factor - 1.;
        let factor_lost = (1. - (factor - added)) + (cubic - added) + cubic_lost;
        let product = t * factor;
        let product_lost = simd.mul_add(t, factor, -product) + t * factor_lost;
        let high = Self::SCALE[0] * product;
        let low = simd.mul_add(Self::SCALE[0], product_lost, Self::SCALE[1] * product);
        Parts { high, low: simd.mul_add(Self::SCALE[0], product, -high) + low }
    }

    /// `e^−|z|`.
    #[inline(always)]
    fn exponentials<S: Simd>(simd: S, x: &Block<f32>) -> Stage {
        let mut stage = Stage::of(x, |x| {
            let z = Self::argument(simd, within(x, Self::END));
            Parts { high: -z.high, low: -z.low }
        });
        stage.exponentials(simd);
        stage
    }
}

impl Single for GeluTanh {
    #[inline(always)]
    fn values<S: Simd>(simd: S, x: &Block<f32>, to: &mut Block<f32>) {
        let stage = Self::exponentials(simd, x);
        for i in 0..BLOCK {
            let value = Gate::new(stage.at(i)).gated(simd, x[i], within(x[i], Self::END));
            to[i] = if x[i] > Self::END { x[i] } else { value };
        }
    }

    #[inline(always)]
    fn slopes<S: Simd>(simd: S, x: &Block<f32>, to: &mut Block<f32>) {
        let stage = Self::exponentials(simd, x);
        for i in 0..BLOCK {
            let size = within(x[i], Self::END);
            let bend = Self::SCALE[0] * size * simd.mul_add(3. * Self::CUBIC[0] * size, size, 1.);
            to[i] = Gate::new(stage.at(i)).gated_slope(simd, x[i], bend);
        }
    }
}

/// [`GeluTanh`] of elements of 16 bits: each step of the way is rounded to f32. That leaves 2⁻¹⁸ of a value that f16 can hold, and 2⁻¹⁶ of the
/// smallest of bf16, where a rounding is 2⁻¹¹ and 2⁻⁸.
pub(super) struct GeluTanhOf16;

impl Single for GeluTanhOf16 {
    #[inline(always)]
    fn values<S: Simd>(simd: S, x: &Block<f32>, to: &mut Block<f32>) {
        let (mut e, mut n) = ([0.; BLOCK], [0; BLOCK]);
        for ((&x, e), n) in x.iter().zip(&mut e).zip(&mut n) {
            let t = within(x, GeluTanh::END);
            let z = GeluTanh::SCALE[0] * t * simd.mul_add(GeluTanh::CUBIC[0] * t, t, 1.);
            let (parts, power) = exponential(simd, -z, 0.);
            (*e, *n) = (parts.high, power);
        }
        for i in 0..BLOCK {
            let (below, t) = (x[i] < 0., within(x[i], GeluTanh::END));
            // What is less than 2⁻¹²⁶ adds nothing to 1.
            let sum = 1. + e[i] * power_of_two(n[i].max(-126));
            let q = t * if below { e[i] } else { 1. } / sum;
            let value = scaled(q, if below { n[i] } else { 0 }).copysign(x[i]);
            to[i] = if x[i] > GeluTanh::END { x[i] } else { value };
        }
    }

    #[inline(always)]
    fn slopes<S: Simd>(simd: S, x: &Block<f32>, to: &mut Block<f32>) {
        GeluTanh::slopes(simd, x, to);
    }
}
