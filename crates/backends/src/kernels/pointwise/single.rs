//! The functions that networks are made of, of elements of 16 bits and f32 in f32, where the machine multiplies and adds in one
//! rounding: the formulas of `single.cuh`.
//!
//! An exponential and what it is multiplied by are kept in two parts each, so that a value is rounded about twice on its way.

use super::Function;
use crate::Floats;
use crate::simd::convert::Stored;
use crate::simd::{Isa, Simd, Work};
use half::{bf16, f16};

/// Elements that are brought to f32 at a time.
const BLOCK: usize = 64;

/// Whether the function is one of these, on this machine.
pub(super) fn takes(isa: Isa, function: Function) -> bool {
    let is_one = matches!(function, Function::GeluTanh | Function::Relu | Function::Sigmoid | Function::Silu);
    is_one && !matches!(isa, Isa::Baseline(_))
}

/// The values, where it [`takes`] the function.
pub(super) fn values<X: Stored<f32>>(isa: Isa, function: Function, x: &[X], out: &mut [X]) {
    match function {
        Function::GeluTanh => isa.run(Values(GeluTanh, x, out)),
        Function::Relu => isa.run(Values(Relu, x, out)),
        Function::Sigmoid => isa.run(Values(Sigmoid, x, out)),
        _ => isa.run(Values(Silu, x, out)),
    }
}

/// The gradients of `x` from those of the values, which are as many and not in f64, where it [`takes`] the function.
pub(super) fn gradients<X: Stored<f32>>(
    isa: Isa,
    function: Function,
    x: &[X],
    grad: Floats<'_>,
    out: &mut [X],
) {
    match grad {
        Floats::F16(grad) => typed::<X, f16>(isa, function, x, grad, out),
        Floats::Bf16(grad) => typed::<X, bf16>(isa, function, x, grad, out),
        Floats::F32(grad) => typed::<X, f32>(isa, function, x, grad, out),
        Floats::F64(_) => unreachable!("gradients in f64 are another path's"),
    }
}

fn typed<X: Stored<f32>, G: Stored<f32>>(isa: Isa, function: Function, x: &[X], grad: &[G], out: &mut [X]) {
    match function {
        Function::GeluTanh => isa.run(Gradients(GeluTanh, x, grad, out)),
        Function::Relu => isa.run(Gradients(Relu, x, grad, out)),
        Function::Sigmoid => isa.run(Gradients(Sigmoid, x, grad, out)),
        _ => isa.run(Gradients(Silu, x, grad, out)),
    }
}

/// A function and the gradient that it passes on, without a branch.
trait Single {
    fn value<S: Simd>(simd: S, x: f32) -> f32;
    fn gradient<S: Simd>(simd: S, x: f32, grad: f32) -> f32;
}

struct Values<'a, L, X>(L, &'a [X], &'a mut [X]);

impl<L: Single, X: Stored<f32>> Work for Values<'_, L, X> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut wide = [0f32; BLOCK];
        for (x, out) in self.1.chunks(BLOCK).zip(self.2.chunks_mut(BLOCK)) {
            X::read(simd, x, &mut wide[..x.len()]);
            // All of the block, so that the loop has a known length.
            for x in &mut wide {
                *x = L::value(simd, *x);
            }
            X::write(simd, &wide[..x.len()], out);
        }
    }
}

struct Gradients<'a, L, X, G>(L, &'a [X], &'a [G], &'a mut [X]);

impl<L: Single, X: Stored<f32>, G: Stored<f32>> Work for Gradients<'_, L, X, G> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (mut wide, mut grads) = ([0f32; BLOCK], [0f32; BLOCK]);
        let blocks = self.1.chunks(BLOCK).zip(self.2.chunks(BLOCK));
        for ((x, grad), out) in blocks.zip(self.3.chunks_mut(BLOCK)) {
            X::read(simd, x, &mut wide[..x.len()]);
            G::read(simd, grad, &mut grads[..x.len()]);
            for (grad, &x) in grads.iter_mut().zip(&wide) {
                *grad = L::gradient(simd, x, *grad);
            }
            X::write(simd, &grads[..x.len()], out);
        }
    }
}

/// A number that is the sum of two.
#[derive(Clone, Copy)]
struct Parts {
    high: f32,
    low: f32,
}

/// `v · 2ⁿ` for `−250 < n < 250`, in two steps of which one rounds.
#[inline(always)]
fn scaled(v: f32, n: i32) -> f32 {
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) << 23) as u32);
    v * power(half) * power(n.wrapping_sub(half))
}

/// `exp(x + lost)` is the sum of the parts, which is near 1, times `2ⁿ`; for `−200 < x ≤ 0`.
#[inline(always)]
fn exponential<S: Simd>(simd: S, x: f32, lost: f32) -> (Parts, i32) {
    /// `1.5 · 2²³`: adding it rounds to an integer, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.;
    /// ln 2 in two parts, of which the first times that integer is exact.
    const LN2: [f32; 2] = [0.693_145_75, 1.428_606_8e-6];
    let whole = simd.mul_add(x, std::f32::consts::LOG2_E, ROUND);
    let k = whole - ROUND;
    let r = simd.mul_add(k, -LN2[1], simd.mul_add(k, -LN2[0], x)) + lost;
    let mut p = 0.001_381_421_4;
    for c in [0.008_368_899, 0.041_668_408, 0.166_665_2, 0.499_999_94] {
        p = simd.mul_add(p, r, c);
    }
    let rest = simd.mul_add(r * r, p, r);
    let high = 1. + rest;
    let n = whole.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    (Parts { high, low: rest - (high - 1.) }, n)
}

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
    /// Of `|z| = size + lost`.
    #[inline(always)]
    fn new<S: Simd>(simd: S, size: f32, lost: f32) -> Self {
        let (e, n) = exponential(simd, -size, -lost);
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

/// `|x|`, or the end where it is larger.
#[inline(always)]
fn within(x: f32, end: f32) -> f32 {
    if x.abs() > end { end } else { x.abs() }
}

struct Relu;

impl Single for Relu {
    #[inline(always)]
    fn value<S: Simd>(_: S, x: f32) -> f32 {
        if x <= 0. { 0. } else { x }
    }

    #[inline(always)]
    fn gradient<S: Simd>(_: S, x: f32, grad: f32) -> f32 {
        if x <= 0. { 0. } else { grad }
    }
}

struct Sigmoid;

impl Single for Sigmoid {
    #[inline(always)]
    fn value<S: Simd>(simd: S, x: f32) -> f32 {
        let gate = Gate::new(simd, within(x, Silu::END), 0.);
        let q = gate.open(simd, 1.);
        let closed = gate.closed(simd, q);
        if x < 0. { closed } else { q }
    }

    #[inline(always)]
    fn gradient<S: Simd>(simd: S, x: f32, grad: f32) -> f32 {
        let gate = Gate::new(simd, within(x, Silu::END), 0.);
        let q = gate.open(simd, 1.);
        gate.closed(simd, q * q) * grad
    }
}

struct Silu;

impl Silu {
    const END: f32 = 120.;
}

impl Single for Silu {
    #[inline(always)]
    fn value<S: Simd>(simd: S, x: f32) -> f32 {
        let size = within(x, Self::END);
        let value = Gate::new(simd, size, 0.).gated(simd, x, size);
        if x > Self::END { x } else { value }
    }

    #[inline(always)]
    fn gradient<S: Simd>(simd: S, x: f32, grad: f32) -> f32 {
        let size = within(x, Self::END);
        Gate::new(simd, size, 0.).gated_slope(simd, x, size) * grad
    }
}

struct GeluTanh;

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
}

impl Single for GeluTanh {
    #[inline(always)]
    fn value<S: Simd>(simd: S, x: f32) -> f32 {
        let size = within(x, Self::END);
        let z = Self::argument(simd, size);
        let value = Gate::new(simd, z.high, z.low).gated(simd, x, size);
        if x > Self::END { x } else { value }
    }

    #[inline(always)]
    fn gradient<S: Simd>(simd: S, x: f32, grad: f32) -> f32 {
        let size = within(x, Self::END);
        let z = Self::argument(simd, size);
        let bend = Self::SCALE[0] * size * simd.mul_add(3. * Self::CUBIC[0] * size, size, 1.);
        Gate::new(simd, z.high, z.low).gated_slope(simd, x, bend) * grad
    }
}

#[cfg(test)]
#[path = "single_tests.rs"]
mod tests;
