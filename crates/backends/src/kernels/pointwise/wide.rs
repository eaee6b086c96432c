//! The functions that networks are made of, for elements of f64: the forms of [`super::forms`] without a branch, so that a compiler
//! computes several at once. Where the machine multiplies and adds in one rounding, which these forms need.

use super::Function;
use super::lanes::{Gradients, Lane, Values};
use crate::simd::math::exp_f64 as exp;
use crate::simd::{Isa, Simd};

/// Replaces every element by its value, where the function is one of these.
pub(super) fn values(isa: Isa, function: Function, x: &mut [f64]) -> bool {
    match function {
        _ if matches!(isa, Isa::Baseline(_)) => return false,
        Function::GeluTanh => isa.run(Values(GeluTanh, x)),
        Function::Sigmoid => isa.run(Values(Sigmoid, x)),
        Function::Silu => isa.run(Values(Silu, x)),
        _ => return false,
    }
    true
}

/// Replaces every element of `g`, the gradient of the value, by the gradient of `x`, where the function is one of these.
pub(super) fn gradients(isa: Isa, function: Function, x: &[f64], g: &mut [f64]) -> bool {
    match function {
        _ if matches!(isa, Isa::Baseline(_)) => return false,
        Function::GeluTanh => isa.run(Gradients(GeluTanh, x, g)),
        Function::Sigmoid => isa.run(Gradients(Sigmoid, x, g)),
        Function::Silu => isa.run(Gradients(Silu, x, g)),
        _ => return false,
    }
    true
}

/// `factor · x`, and 0 where the factor is, whatever `x`.
#[inline(always)]
fn unless_zero(factor: f64, x: f64) -> f64 {
    let product = factor * x;
    if factor == 0. { 0. } else { product }
}

struct Sigmoid;

impl Lane for Sigmoid {
    #[inline(always)]
    fn value<S: Simd>(simd: S, x: f64) -> f64 {
        let e = exp(simd, -x.abs());
        (if x < 0. { e } else { 1. }) / (1. + e)
    }

    #[inline(always)]
    fn slope<S: Simd>(simd: S, x: f64) -> f64 {
        let e = exp(simd, -x.abs());
        e / ((1. + e) * (1. + e))
    }
}

/// `x σ(z)`, where `t` is `exp(−z)` above 0 and `exp(z / 2)` below.
#[inline(always)]
fn gated(x: f64, t: f64) -> f64 {
    let above = x / (1. + t);
    let below = -unless_zero(t, -x / (1. + t * t) * t);
    if x < 0. { below } else { above }
}

/// The derivative of `x σ(z)`, with `bend = x z′`.
#[inline(always)]
fn gated_slope(x: f64, t: f64, bend: f64) -> f64 {
    let above = (1. + unless_zero(t, bend / (1. + t))) / (1. + t);
    let gate = 1. / (1. + t * t);
    let below = unless_zero(t, t * (1. + bend * gate) * gate);
    if x < 0. { below } else { above }
}

struct Silu;

impl Silu {
    #[inline(always)]
    fn exponential<S: Simd>(simd: S, x: f64) -> f64 {
        exp(simd, if x < 0. { 0.5 * x } else { -x })
    }
}

impl Lane for Silu {
    #[inline(always)]
    fn value<S: Simd>(simd: S, x: f64) -> f64 {
        gated(x, Self::exponential(simd, x))
    }

    #[inline(always)]
    fn slope<S: Simd>(simd: S, x: f64) -> f64 {
        gated_slope(x, Self::exponential(simd, x), x)
    }
}

struct GeluTanh;

impl GeluTanh {
    const CUBIC: f64 = 0.044715;
    /// 2√(2/π), and what the first number lacks.
    const SCALE: (f64, f64) = (1.5957691216057308, -9.96930880911092e-17);

    /// Of `2u`, with what its roundings lost put back to first order.
    #[inline(always)]
    fn exponential<S: Simd>(simd: S, x: f64) -> f64 {
        let product = |a: f64, b: f64| {
            let product = a * b;
            (product, simd.mul_add_f64(a, b, -product))
        };
        let (square, square_lost) = product(x, x);
        let (cubic, cubic_lost) = product(Self::CUBIC, square);
        let factor = 1. + cubic;
        let larger = if cubic > 1. { (cubic - factor) + 1. } else { (1. - factor) + cubic };
        let factor_lost = larger + (cubic_lost + Self::CUBIC * square_lost);
        let (whole, whole_lost) = product(x, factor);
        let (argument, argument_lost) = product(Self::SCALE.0, whole);
        let lost = argument_lost + Self::SCALE.0 * (whole_lost + x * factor_lost) + Self::SCALE.1 * whole;
        let far = x.abs() > 100.;
        let (argument, lost) = (if far { 1e4 * x } else { argument }, if far { 0. } else { lost });
        let t = exp(simd, if x < 0. { 0.5 * argument } else { -argument });
        t + t * (if x < 0. { 0.5 * lost } else { -lost })
    }
}

impl Lane for GeluTanh {
    #[inline(always)]
    fn value<S: Simd>(simd: S, x: f64) -> f64 {
        gated(x, Self::exponential(simd, x))
    }

    #[inline(always)]
    fn slope<S: Simd>(simd: S, x: f64) -> f64 {
        let bend = x * (Self::SCALE.0 * (1. + 3. * Self::CUBIC * (x * x)));
        gated_slope(x, Self::exponential(simd, x), bend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use precision_types::ulp_distance;

    /// f64 of all sizes, dense where the functions bend.
    fn arguments() -> Vec<f64> {
        let all = (0..=u16::MAX).map(|high| f64::from_bits(u64::from(high) << 48 | 0x1234_5678_9abc));
        let dense = (-90_000..90_000).map(|i| f64::from(i) * 0.008_3);
        let ends = [0., -0., f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MAX, f64::MIN, 5e-324, -5e-324];
        all.chain(dense).chain(ends).collect()
    }

    fn apart(what: &str, x: f64, got: f64, want: f64, bound: u64) {
        let distance = ulp_distance(got, want);
        assert!(distance.is_some_and(|ulps| ulps <= bound), "{what} of {x}: {got}, not {want}");
    }

    /// Within what both may be off: `docs/numerics.md` has the bounds of each.
    #[test]
    fn every_instruction_set_agrees_with_the_table() {
        let x = arguments();
        for function in [Function::GeluTanh, Function::Sigmoid, Function::Silu] {
            let (mut want, mut slopes) = (x.clone(), vec![1.; x.len()]);
            function.values(&mut want);
            function.gradients(&x, &mut slopes);
            for isa in Isa::available() {
                let (mut got, mut got_slopes) = (x.clone(), vec![1.; x.len()]);
                if values(isa, function, &mut got) && gradients(isa, function, &x, &mut got_slopes) {
                    for i in 0..x.len() {
                        apart(&format!("{function:?}"), x[i], got[i], want[i], 8);
                        apart(&format!("the slope of {function:?}"), x[i], got_slopes[i], slopes[i], 12);
                    }
                }
            }
        }
    }
}
