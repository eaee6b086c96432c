//! Every instruction set of the machine: conversions against `half`, sums, and the functions against f64.

use super::*;
use crate::buffer::{Slice, SliceMut};
use half::bf16;

struct Exp<'a>(&'a [f32], &'a mut [f32]);

impl Work for Exp<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (y, &x) in self.1.iter_mut().zip(self.0) {
            *y = math::exp(simd, x);
        }
    }
}

#[test]
fn exp_is_within_its_bound() {
    let mut x: Vec<f32> = (0..400_000).map(|i| -(i as f32) * 0.000_27).collect();
    x.extend((0..1000).map(|i| i as f32 * 0.08));
    x.extend([f32::NAN, f32::NEG_INFINITY, -0.0, 0.0, -103.9, -1e30, f32::MIN_POSITIVE, -1e-40]);
    for isa in Isa::available() {
        let mut y = vec![0.; x.len()];
        isa.run(Exp(&x, &mut y));
        let bound = if matches!(isa, Isa::Baseline(_)) { 2 } else { 1 };
        for (&x, &y) in x.iter().zip(&y) {
            let want = f64::from(x).exp() as f32;
            assert_eq!(want.is_nan(), y.is_nan(), "{x}");
            let apart = want.to_bits().abs_diff(y.to_bits());
            assert!(want.is_nan() || apart <= bound, "exp({x}) is {y}, not {want}: {isa:?}");
        }
    }
}

struct WideExp<'a>(&'a [f64], &'a mut [f64]);

impl Work for WideExp<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (y, &x) in self.1.iter_mut().zip(self.0) {
            *y = math::exp_f64(simd, x);
        }
    }
}

#[test]
fn exp_of_f64_is_within_its_bound_of_the_librarys() {
    let mut x: Vec<f64> = (-300_000..290_000).map(|i| f64::from(i) * 0.002_45).collect();
    x.extend((0..=u16::MAX).map(|high| f64::from_bits(u64::from(high) << 48 | 0x1234_5678_9abc)));
    x.extend([f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0., -0., 5e-324, -5e-324, -745.2, 709.7]);
    for isa in Isa::available() {
        let mut y = vec![0.; x.len()];
        isa.run(WideExp(&x, &mut y));
        let bound = if isa.fuses() { 1 } else { 2 };
        for (&x, &y) in x.iter().zip(&y) {
            let want = x.exp();
            assert_eq!(want.is_nan(), y.is_nan(), "{x}");
            let apart = want.to_bits().abs_diff(y.to_bits());
            assert!(want.is_nan() || apart <= bound, "exp({x}) is {y}, not {want}: {isa:?}");
        }
    }
}

struct Convert<'a>(Slice<'a>, SliceMut<'a>);

impl Work for Convert<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let len = self.0.len();
        let mut wide = vec![0.; len];
        rows::load(simd, self.0, 0..len, &mut wide);
        rows::store(simd, &wide, &mut self.1, 0..len);
    }
}

#[test]
fn conversions_are_those_of_half() {
    let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
    let odd: Vec<f32> = (0..=u16::MAX)
        .flat_map(|b| [0, 0x7fff, 0x8000, 0x8001].map(|low| f32::from_bits(u32::from(b) << 16 | low)))
        .collect();
    for isa in Isa::available() {
        let mut wide = vec![0.; all.len()];
        isa.run(Convert(Slice::F16(&all), SliceMut::F32(&mut wide)));
        for (x, y) in all.iter().zip(&wide) {
            assert!(x.to_f32() == *y || x.is_nan() && y.is_nan(), "{x} became {y}");
        }
        let (mut halves, mut brains) = (vec![f16::ZERO; odd.len()], vec![bf16::ZERO; odd.len()]);
        isa.run(Convert(Slice::F32(&odd), SliceMut::F16(&mut halves)));
        isa.run(Convert(Slice::F32(&odd), SliceMut::Bf16(&mut brains)));
        for ((&x, half), brain) in odd.iter().zip(&halves).zip(&brains) {
            let (want, wanted) = (f16::from_f32(x), bf16::from_f32(x));
            assert!(want.to_bits() == half.to_bits() || x.is_nan() && half.is_nan(), "{x} became {half}");
            assert!(
                wanted.to_bits() == brain.to_bits() || x.is_nan() && brain.is_nan(),
                "{x} became {brain}"
            );
        }
        for len in 0..=67 {
            let mut wide = vec![0.; len];
            isa.run(Convert(Slice::F16(&all[1..=len]), SliceMut::F32(&mut wide)));
            assert!(wide.iter().zip(&all[1..]).all(|(y, x)| *y == x.to_f32()));
        }
    }
}

#[test]
fn sums_and_maxima_of_every_length() {
    for len in 0..=67 {
        let x: Vec<f32> = (0..len).map(|i| ((i * 37) % 67) as f32).collect();
        assert_eq!(rows::sum(&x, f64::from), x.iter().map(|&x| f64::from(x)).sum::<f64>());
        assert_eq!(rows::sum_pairs(&x, &x, |x, y| f64::from(x * y)), rows::sum(&x, |x| f64::from(x * x)));
        assert_eq!(rows::max(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        for at in 0..len {
            let mut x = x.clone();
            x[at] = f32::NAN;
            let others = x.iter().copied().filter(|x| !x.is_nan());
            assert_eq!(rows::max(&x), others.fold(f32::NEG_INFINITY, f32::max));
        }
    }
    assert_eq!(rows::split(16_777_217.), (16_777_216., 1.));
    assert_eq!(rows::split(f64::INFINITY), (f32::INFINITY, 0.));
}
