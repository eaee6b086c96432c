//! The functions that networks are made of, in f64 without a branch, so that a compiler computes several at once: for elements that
//! are narrower than f64, of which these are a few units of 2⁻⁵² off before they are rounded.
//!
//! With `e = exp(−|z|)`, which neither overflows nor loses anything, `σ(z)` is `1 / (1 + e)` above 0 and `e / (1 + e)` below. Far out,
//! where `e` is 0 to every narrower type, the limit is taken.

use super::Function;
use crate::simd::{Isa, Simd, Work};

/// Replaces every element by its value, where the function is one of these.
pub(super) fn values(isa: Isa, function: Function, x: &mut [f64]) -> bool {
    match function {
        Function::Exp => isa.run(Values(Exp, x)),
        Function::GeluTanh => isa.run(Values(GeluTanh, x)),
        Function::Sigmoid => isa.run(Values(Sigmoid, x)),
        Function::Silu => isa.run(Values(Silu, x)),
        Function::Tanh => isa.run(Values(Tanh, x)),
        _ => return false,
    }
    true
}

/// Replaces every element of `g`, the gradient of the value, by the gradient of `x`, where the function is one of these.
pub(super) fn gradients(isa: Isa, function: Function, x: &[f64], g: &mut [f64]) -> bool {
    match function {
        Function::Exp => isa.run(Gradients(Exp, x, g)),
        Function::GeluTanh => isa.run(Gradients(GeluTanh, x, g)),
        Function::Sigmoid => isa.run(Gradients(Sigmoid, x, g)),
        Function::Silu => isa.run(Gradients(Silu, x, g)),
        Function::Tanh => isa.run(Gradients(Tanh, x, g)),
        _ => return false,
    }
    true
}

/// A function and its derivative, without a branch.
pub(super) trait Lane {
    fn value<S: Simd>(simd: S, x: f64) -> f64;
    fn slope<S: Simd>(simd: S, x: f64) -> f64;
}

pub(super) struct Values<'a, L>(pub(super) L, pub(super) &'a mut [f64]);

impl<L: Lane> Work for Values<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for x in self.1 {
            *x = L::value(simd, *x);
        }
    }
}

pub(super) struct Gradients<'a, L>(pub(super) L, pub(super) &'a [f64], pub(super) &'a mut [f64]);

impl<L: Lane> Work for Gradients<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (g, &x) in self.2.iter_mut().zip(self.1) {
            *g *= L::slope(simd, x);
        }
    }
}

/// `e^x` for `x` up to 709; what is smaller than e⁻⁷⁰⁸ is that, what is larger e⁷⁰⁹.
///
/// `x = n · ln 2 + r` with `|r| ≤ ln 2 / 2`; the Taylor series of `e^r` to the 12th power leaves less than 2⁻⁵².
#[inline(always)]
fn exp<S: Simd>(simd: S, x: f64) -> f64 {
    /// `1.5 · 2⁵²`: adding it rounds to an integer, which then stands in the lowest bits.
    const ROUND: f64 = 6_755_399_441_055_744.;
    const LN2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    const SERIES: [f64; 11] = [
        1. / 39_916_800.,
        1. / 3_628_800.,
        1. / 362_880.,
        1. / 40_320.,
        1. / 5_040.,
        1. / 720.,
        1. / 120.,
        1. / 24.,
        1. / 6.,
        0.5,
        1.,
    ];
    let x = if x < -708. { -708. } else { x };
    let x = if x > 709. { 709. } else { x };
    let shifted = simd.mul_add_f64(x, std::f64::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = simd.mul_add_f64(n, -LN2_LOW, simd.mul_add_f64(n, -LN2_HIGH, x));
    let mut p = 1. / 479_001_600.;
    for c in SERIES {
        p = simd.mul_add_f64(p, r, c);
    }
    let p = simd.mul_add_f64(p, r, 1.);
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(1023) << 52;
    p * f64::from_bits(power)
}

/// `exp(−|z|)`, and `σ(z)`.
#[inline(always)]
fn sigmoid<S: Simd>(simd: S, z: f64) -> (f64, f64) {
    let e = exp(simd, -z.abs());
    (e, if z < 0. { e } else { 1. } / (1. + e))
}

struct Exp;

impl Lane for Exp {
    #[inline(always)]
    fn value<S: Simd>(simd: S, x: f64) -> f64 {
        exp(simd, x)
    }

    #[inline(always)]
    fn slope<S: Simd>(simd: S, x: f64) -> f64 {
        exp(simd, x)
    }
}

struct Sigmoid;

impl Lane for Sigmoid {
    #[inline(always)]
    fn value<S: Simd>(simd: S, x: f64) -> f64 {
        sigmoid(simd, x).1
    }

    #[inline(always)]
    fn slope<S: Simd>(simd: S, x: f64) -> f64 {
        let e = exp(simd, -x.abs());
        e / ((1. + e) * (1. + e))
    }
}

/// `x σ(z)`, and 0 where `σ(z)` is.
#[inline(always)]
fn gated<S: Simd>(simd: S, x: f64, z: f64) -> f64 {
    let value = x * sigmoid(simd, z).1;
    if z < -700. { -0. } else { value }
}

/// The derivative of `x σ(z)`, with `b = x z′`.
#[inline(always)]
fn gated_slope<S: Simd>(simd: S, z: f64, b: f64) -> f64 {
    let (e, gate) = sigmoid(simd, z);
    let slope = simd.mul_add_f64(b, e / ((1. + e) * (1. + e)), gate);
    let slope = if z > 700. { 1. } else { slope };
    if z < -700. { 0. } else { slope }
}

struct Silu;

impl Lane for Silu {
    #[inline(always)]
    fn value<S: Simd>(simd: S, x: f64) -> f64 {
        gated(simd, x, x)
    }

    #[inline(always)]
    fn slope<S: Simd>(simd: S, x: f64) -> f64 {
        gated_slope(simd, x, x)
    }
}

struct GeluTanh;

impl GeluTanh {
    const LINEAR: f64 = 1.5957691216057308;
    const CUBIC: f64 = 0.044715;

    #[inline(always)]
    fn argument<S: Simd>(simd: S, x: f64) -> f64 {
        Self::LINEAR * x * simd.mul_add_f64(Self::CUBIC * x, x, 1.)
    }
}

impl Lane for GeluTanh {
    #[inline(always)]
    fn value<S: Simd>(simd: S, x: f64) -> f64 {
        gated(simd, x, Self::argument(simd, x))
    }

    #[inline(always)]
    fn slope<S: Simd>(simd: S, x: f64) -> f64 {
        let bend = Self::LINEAR * x * simd.mul_add_f64(3. * Self::CUBIC * x, x, 1.);
        gated_slope(simd, Self::argument(simd, x), bend)
    }
}

struct Tanh;

impl Lane for Tanh {
    #[inline(always)]
    fn value<S: Simd>(simd: S, x: f64) -> f64 {
        let e = exp(simd, -2. * x.abs());
        // Near 0 the difference would lose digits, and the series has them.
        let far = ((1. - e) / (1. + e)).copysign(x);
        let near = x - x * x * x / 3.;
        if x.abs() < 1e-4 { near } else { far }
    }

    #[inline(always)]
    fn slope<S: Simd>(simd: S, x: f64) -> f64 {
        let e = exp(simd, -2. * x.abs());
        4. * e / ((1. + e) * (1. + e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use precision_types::ulp_distance;

    const FUNCTIONS: [Function; 5] =
        [Function::Exp, Function::GeluTanh, Function::Sigmoid, Function::Silu, Function::Tanh];

    /// f32 of all sizes, dense where the functions bend.
    fn arguments() -> Vec<f64> {
        let all = (0..=u16::MAX).map(|high| f32::from_bits(u32::from(high) << 16 | 0x1234));
        let dense = (-60_000..60_000).map(|i| i as f32 * 0.002_3);
        let ends = [0., -0., f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN, 1e-45, -1e-45];
        all.chain(dense).chain(ends).map(f64::from).collect()
    }

    fn apart(function: Function, x: f64, got: f64, want: f64) {
        let (got, want) = (got as f32, want as f32);
        let distance = ulp_distance(got, want);
        assert!(distance.is_some_and(|ulps| ulps <= 1), "{function:?} of {x}: {got}, not {want}");
    }

    #[test]
    fn every_instruction_set_agrees_with_the_table() {
        let x = arguments();
        for function in FUNCTIONS {
            let mut want = x.clone();
            function.values(&mut want);
            let mut slopes = vec![1.; x.len()];
            function.gradients(&x, &mut slopes);
            for isa in Isa::available() {
                let (mut got, mut got_slopes) = (x.clone(), vec![1.; x.len()]);
                assert!(values(isa, function, &mut got) && gradients(isa, function, &x, &mut got_slopes));
                for i in 0..x.len() {
                    apart(function, x[i], got[i], want[i]);
                    apart(function, x[i], got_slopes[i], slopes[i]);
                }
            }
        }
    }
}
