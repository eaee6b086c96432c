//! The functions that networks are made of, of elements of 16 bits and f32 in f32, where the machine multiplies and adds in one
//! rounding: the formulas of `single.cuh`.
//!
//! An exponential and what it is multiplied by are kept in two parts each, so that a value is rounded about twice on its way.
//! A block goes through a formula in stages: the chain of what waits for one another is short in each, and a processor works on several
//! vectors of it at a time.

mod gated;
mod normal;
#[cfg(test)]
mod tests;

use super::Function;
use crate::Floats;
use crate::simd::convert::Stored;
use crate::simd::map::{BLOCK, Block, Blocks, Each, Map, Map2};
use crate::simd::math::power_of_two;
use crate::simd::{Isa, Simd};
use gated::{GeluTanh, GeluTanhOf16, Sigmoid, Silu};
use normal::Gelu;

/// Whether the function is one of these, on this machine.
pub(super) fn takes(isa: Isa, function: Function) -> bool {
    use Function::{Gelu, GeluTanh, Relu, Scale, Sigmoid, Silu};
    let is_one = matches!(function, Gelu | GeluTanh | Relu | Scale { .. } | Sigmoid | Silu);
    is_one && !matches!(isa, Isa::Baseline(_))
}

/// The values, where it [`takes`] the function.
pub(super) fn values<X: Stored<f32>>(isa: Isa, function: Function, x: &[X], out: &mut [X]) {
    match function {
        Function::Gelu => isa.run(Map::new(Of(Gelu), 0, x, out)),
        Function::GeluTanh if X::as_it_is(&[]).is_none() => isa.run(Map::new(Of(GeluTanhOf16), 0, x, out)),
        Function::GeluTanh => isa.run(Map::new(Of(GeluTanh), 0, x, out)),
        Function::Scale { factor } => {
            let factor = factor as f32;
            isa.run(Map::new(Each(|x: f32| x * factor), 0, x, out));
        }
        Function::Sigmoid => isa.run(Map::new(Of(Sigmoid), 0, x, out)),
        Function::Silu => isa.run(Map::new(Of(Silu), 0, x, out)),
        // A NaN is not below.
        _ => isa.run(Map::new(Each(|x: f32| if x <= 0. { 0. } else { x }), 0, x, out)),
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
    match function {
        Function::Gelu => isa.run(Map2::new(Of(Gelu), 0, x, grad, out)),
        Function::GeluTanh => isa.run(Map2::new(Of(GeluTanh), 0, x, grad, out)),
        Function::Scale { factor } => {
            let factor = factor as f32;
            isa.run(Map2::new(Each(|_: f32, grad: f32| grad * factor), 0, x, grad, out));
        }
        Function::Sigmoid => isa.run(Map2::new(Of(Sigmoid), 0, x, grad, out)),
        Function::Silu => isa.run(Map2::new(Of(Silu), 0, x, grad, out)),
        _ => isa.run(Map2::new(Each(|x: f32, g: f32| if x <= 0. { 0. } else { g }), 0, x, grad, out)),
    }
}

/// A function and its derivative, of a block.
trait Single {
    fn values<S: Simd>(simd: S, x: &Block<f32>, to: &mut Block<f32>);
    fn slopes<S: Simd>(simd: S, x: &Block<f32>, to: &mut Block<f32>);
}

/// Its values, and with a gradient beside `x` the gradient that it passes on.
struct Of<L>(L);

impl<L: Single> Blocks<f32, 1> for Of<L> {
    #[inline(always)]
    fn make<S: Simd>(&self, simd: S, _: usize, [x]: [&Block<f32>; 1], to: &mut Block<f32>) {
        L::values(simd, x, to);
    }
}

impl<L: Single> Blocks<f32, 2> for Of<L> {
    #[inline(always)]
    fn make<S: Simd>(&self, simd: S, _: usize, [x, grad]: [&Block<f32>; 2], to: &mut Block<f32>) {
        L::slopes(simd, x, to);
        to.iter_mut().zip(grad).for_each(|(to, grad)| *to *= grad);
    }
}

/// A number that is the sum of two.
#[derive(Clone, Copy)]
struct Parts {
    high: f32,
    low: f32,
}

/// Numbers of a block on their way from one stage to the next: two parts of each, and the power of two that they are times.
struct Stage {
    high: Block<f32>,
    low: Block<f32>,
    n: [i32; BLOCK],
}

impl Stage {
    /// Two parts of a number of each of `x`, times 1.
    #[inline(always)]
    fn of(x: &Block<f32>, parts: impl Fn(f32) -> Parts) -> Self {
        let mut stage = Self { high: [0.; BLOCK], low: [0.; BLOCK], n: [0; BLOCK] };
        for ((&x, to_high), to_low) in x.iter().zip(&mut stage.high).zip(&mut stage.low) {
            let Parts { high, low } = parts(x);
            (*to_high, *to_low) = (high, low);
        }
        stage
    }

    /// Replaces each number by its exponential, for those that are `> −200` and `≤ 0`.
    #[inline(always)]
    fn exponentials<S: Simd>(&mut self, simd: S) {
        for i in 0..BLOCK {
            let (e, n) = exponential(simd, self.high[i], self.low[i]);
            (self.high[i], self.low[i], self.n[i]) = (e.high, e.low, n);
        }
    }

    #[inline(always)]
    fn at(&self, i: usize) -> (Parts, i32) {
        (Parts { high: self.high[i], low: self.low[i] }, self.n[i])
    }
}

/// `v · 2ⁿ` for `−250 < n < 250`, in two steps of which one rounds.
#[inline(always)]
fn scaled(v: f32, n: i32) -> f32 {
    let half = n >> 1;
    v * power_of_two(half) * power_of_two(n.wrapping_sub(half))
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

/// `|x|`, or the end where it is larger.
#[inline(always)]
fn within(x: f32, end: f32) -> f32 {
    if x.abs() > end { end } else { x.abs() }
}
