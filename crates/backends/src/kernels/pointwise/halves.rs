//! The functions that networks are made of, for f16 and bf16: in f32 without a branch, so that a compiler computes sixteen at once. An f32
//! that is a few units off is within a hundredth of a unit of 16 bits, so that what makes up for the rounding of an argument is left out.

use super::Function;
use crate::simd::{Isa, Simd, Work};

/// Whether the function is one of these.
pub(super) fn takes(function: Function) -> bool {
    matches!(function, Function::GeluTanh | Function::Sigmoid | Function::Silu | Function::Relu)
}

/// Replaces every element by its value; nothing where the function is none of these.
pub(super) fn values(isa: Isa, function: Function, x: &mut [f32]) {
    match function {
        Function::GeluTanh => isa.run(Values(GeluTanh, x)),
        Function::Sigmoid => isa.run(Values(Sigmoid, x)),
        Function::Silu => isa.run(Values(Silu, x)),
        Function::Relu => isa.run(Values(Relu, x)),
        _ => {}
    }
}

/// Replaces every element of `g`, the gradient of the value, by the gradient of `x`; nothing where the function is none of these.
pub(super) fn gradients(isa: Isa, function: Function, x: &[f32], g: &mut [f32]) {
    match function {
        Function::GeluTanh => isa.run(Gradients(GeluTanh, x, g)),
        Function::Sigmoid => isa.run(Gradients(Sigmoid, x, g)),
        Function::Silu => isa.run(Gradients(Silu, x, g)),
        Function::Relu => isa.run(Gradients(Relu, x, g)),
        _ => {}
    }
}

/// A function, and its gradient for that of the value.
trait Lane {
    fn value<S: Simd>(simd: S, x: f32) -> f32;
    fn gradient<S: Simd>(simd: S, x: f32, g: f32) -> f32;
}

struct Values<'a, L>(L, &'a mut [f32]);

impl<L: Lane> Work for Values<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for x in self.1 {
            *x = L::value(simd, *x);
        }
    }
}

struct Gradients<'a, L>(L, &'a [f32], &'a mut [f32]);

impl<L: Lane> Work for Gradients<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (g, &x) in self.2.iter_mut().zip(self.1) {
            *g = L::gradient(simd, x, *g);
        }
    }
}

/// `e^x` for `x` up to 88, subnormal results included, within a few units.
///
/// `x = n · ln 2 + r` with `|r| ≤ ln 2 / 2`; the Taylor series of `e^r` to the 7th power leaves less than 2⁻²⁷. `2ⁿ` is multiplied by
/// halves, since it may be smaller than any normal number.
#[inline(always)]
fn exp<S: Simd>(simd: S, x: f32) -> f32 {
    /// `1.5 · 2²³`: adding it rounds to an integer, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const SERIES: [f32; 7] = [1. / 720., 1. / 120., 1. / 24., 1. / 6., 0.5, 1., 1.];
    // Below, 0.
    let x = if x < -120. { -120. } else { x };
    let x = if x > 88. { 88. } else { x };
    let n = simd.mul_add(x, std::f32::consts::LOG2_E, ROUND) - ROUND;
    let r = simd.mul_add(n, -LN2_LOW, simd.mul_add(n, -LN2_HIGH, x));
    let mut p = 1. / 5_040.;
    for c in SERIES {
        p = simd.mul_add(p, r, c);
    }
    let half = simd.mul_add(n, 0.5, ROUND);
    let rest = n - (half - ROUND) + ROUND;
    let power = |shifted: f32| {
        f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23)
    };
    p * power(half) * power(rest)
}

/// `factor · x`, and 0 where the factor is, whatever `x`.
#[inline(always)]
fn unless_zero(factor: f32, x: f32) -> f32 {
    let product = factor * x;
    if factor == 0. { 0. } else { product }
}

/// `x σ(z)`, where `e^z` may be too small for an f32 and `x e^z` is not.
#[inline(always)]
fn gated<S: Simd>(simd: S, x: f32, z: f32) -> f32 {
    let t = exp(simd, if z < 0. { 0.5 * z } else { -z });
    let above = x / (1. + t);
    let below = -unless_zero(t, -x / (1. + t * t) * t);
    if z < 0. { below } else { above }
}

/// The derivative of `x σ(z)`, with `bend = x z′`.
#[inline(always)]
fn gated_slope<S: Simd>(simd: S, z: f32, bend: f32) -> f32 {
    let t = exp(simd, if z < 0. { 0.5 * z } else { -z });
    let above = (1. + unless_zero(t, bend / (1. + t))) / (1. + t);
    let gate = 1. / (1. + t * t);
    let below = unless_zero(t, t * (1. + bend * gate) * gate);
    if z < 0. { below } else { above }
}

struct Relu;

impl Lane for Relu {
    #[inline(always)]
    fn value<S: Simd>(_: S, x: f32) -> f32 {
        if x <= 0. { 0. } else { x }
    }

    #[inline(always)]
    fn gradient<S: Simd>(_: S, x: f32, g: f32) -> f32 {
        if x <= 0. { 0. } else { g }
    }
}

struct Sigmoid;

impl Lane for Sigmoid {
    #[inline(always)]
    fn value<S: Simd>(simd: S, x: f32) -> f32 {
        let e = exp(simd, -x.abs());
        (if x < 0. { e } else { 1. }) / (1. + e)
    }

    #[inline(always)]
    fn gradient<S: Simd>(simd: S, x: f32, g: f32) -> f32 {
        let e = exp(simd, -x.abs());
        g * (e / ((1. + e) * (1. + e)))
    }
}

struct Silu;

impl Lane for Silu {
    #[inline(always)]
    fn value<S: Simd>(simd: S, x: f32) -> f32 {
        gated(simd, x, x)
    }

    #[inline(always)]
    fn gradient<S: Simd>(simd: S, x: f32, g: f32) -> f32 {
        g * gated_slope(simd, x, x)
    }
}

struct GeluTanh;

impl GeluTanh {
    /// 2√(2/π).
    const LINEAR: f32 = 1.595_769;
    const CUBIC: f32 = 0.044_715;

    /// `2u`, infinite where `u³` would be before `x` is.
    #[inline(always)]
    fn argument<S: Simd>(simd: S, x: f32) -> f32 {
        let near = Self::LINEAR * x * simd.mul_add(Self::CUBIC * x, x, 1.);
        if x.abs() > 100. { f32::INFINITY.copysign(x) } else { near }
    }
}

impl Lane for GeluTanh {
    #[inline(always)]
    fn value<S: Simd>(simd: S, x: f32) -> f32 {
        gated(simd, x, Self::argument(simd, x))
    }

    #[inline(always)]
    fn gradient<S: Simd>(simd: S, x: f32, g: f32) -> f32 {
        let bend = Self::LINEAR * x * simd.mul_add(3. * Self::CUBIC * x, x, 1.);
        g * gated_slope(simd, Self::argument(simd, x), bend)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rounded;
    use super::*;
    use half::{bf16, f16};
    use precision_types::ulp_distance;

    /// Every number of `T`, by the table and by every instruction set, as it is stored: within 1 ULP, and NaN by class.
    fn check<T: Rounded + precision_types::Float>(all: &[T], widen: fn(T) -> f64) {
        let wide: Vec<f64> = all.iter().map(|&x| widen(x)).collect();
        let narrow: Vec<f32> = wide.iter().map(|&x| x as f32).collect();
        let stored = |x: &[f64]| {
            let mut out = vec![T::default(); x.len()];
            T::round(x, &mut out);
            out
        };
        let (mut grads, mut values_of_table);
        for function in [Function::GeluTanh, Function::Sigmoid, Function::Silu, Function::Relu] {
            assert!(takes(function));
            (values_of_table, grads) = (wide.clone(), vec![1.; wide.len()]);
            function.values(&mut values_of_table);
            function.gradients(&wide, &mut grads);
            for isa in Isa::available() {
                let (mut got, mut slopes) = (narrow.clone(), vec![1f32; narrow.len()]);
                values(isa, function, &mut got);
                gradients(isa, function, &narrow, &mut slopes);
                for (what, got, want) in [("", got, &values_of_table), ("slope of ", slopes, &grads)] {
                    let mut narrowed = vec![T::default(); got.len()];
                    T::round_f32(&got, &mut narrowed);
                    for (i, (got, want)) in narrowed.into_iter().zip(stored(want)).enumerate() {
                        let distance = ulp_distance(got, want);
                        assert!(
                            distance.is_some_and(|ulps| ulps <= 1),
                            "{what}{function:?} of {}: {got:?}, not {want:?}",
                            wide[i]
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn every_number_of_16_bits_agrees_with_the_table() {
        let all = || 0..=u16::MAX;
        check(&all().map(f16::from_bits).collect::<Vec<_>>(), f64::from);
        check(&all().map(bf16::from_bits).collect::<Vec<_>>(), f64::from);
    }
}
