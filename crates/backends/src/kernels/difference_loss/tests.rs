//! Every pair of types against the formulas, on arguments that turn, vanish and are not finite.

use half::{bf16, f16};
use proptest::prelude::*;

use super::DifferenceLoss::*;
use super::*;
use crate::buffer::{Slice, SliceMut};
use crate::random::random_bits;

const LOSSES: [DifferenceLoss; 4] = [Square, Absolute, SmoothL1 { beta: 0.7 }, Huber { delta: 0.7 }];

fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0., 1e-40, f32::MAX, 65504.];
    let one = |i: usize| match random_bits(seed, i as u64) {
        bits if bits % 13 == 0 => odd[(bits / 13) as usize % odd.len()],
        bits => (bits as f32 / 4e9 - 0.5) * 4.,
    };
    (0..len).map(one).collect()
}

fn same(a: f32, b: f32) -> bool {
    a == b || (a.is_nan() && b.is_nan())
}

/// In the words of the documentation, in f64.
fn in_f64(loss: DifferenceLoss, d: f64) -> [f64; 2] {
    let sign = if d == 0. { 0. } else { d.signum() };
    match loss {
        Square => [d * d, 2. * d],
        Absolute => [d.abs(), sign],
        SmoothL1 { beta } if d.abs() < beta => [d * d / beta / 2., d / beta],
        SmoothL1 { beta } => [d.abs() - beta / 2., sign],
        Huber { delta } if d.abs() < delta => [d * d / 2., d],
        Huber { delta } => [delta * (d.abs() - delta / 2.), delta * sign],
    }
}

#[test]
fn the_formulas_are_those_of_the_documentation() {
    for loss in LOSSES {
        for i in -300..300 {
            let d = f64::from(i) / 100.;
            let [value, slope] = in_f64(loss, d);
            assert!(
                (loss.value(d) - value).abs() < 1e-15 && (loss.slope(d) - slope).abs() < 1e-15,
                "{loss:?} {d}"
            );
        }
        assert!(loss.value(f64::NAN).is_nan() && loss.slope(f64::NAN).is_nan());
    }
}

proptest! {
    #[test]
    fn losses_and_gradients_of_every_type(len in 0usize..70, long: bool, seed: u64, which in 0usize..4, each: bool) {
        let len = if long { len + 40_000 } else { len };
        let (loss, grads) = (LOSSES[which], if each { len } else { 1 });
        let (x, t, g) = (numbers(len, seed), numbers(len, !seed), numbers(grads, seed ^ 7));
        let halves: Vec<f16> = x.iter().map(|&x| f16::from_f32(x)).collect();
        let brains: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
        let target = In::host("t", Slice::F32(&t), &[len], &[1]).unwrap();
        let grad = In::host("grad", Slice::F32(&g), &[grads], &[1]).unwrap();
        for (x, wide) in [
            (Slice::F32(&x), x.clone()),
            (Slice::F16(&halves), halves.iter().map(|x| x.to_f32()).collect::<Vec<_>>()),
            (Slice::Bf16(&brains), brains.iter().map(|x| x.to_f32()).collect()),
        ] {
            let input = In::host("x", x, &[len], &[1]).unwrap();
            let (mut values, mut slopes) = (vec![0f32; len], vec![bf16::ZERO; len]);
            let mut out = Out::host("out", SliceMut::F32(&mut values), &[len]).unwrap();
            prop_assert_eq!(losses(loss, &input, &target, &mut out).unwrap(), Ran::Kernel(OP));
            let mut out = Out::host("out", SliceMut::Bf16(&mut slopes), &[len]).unwrap();
            prop_assert_eq!(gradient(loss, &input, &target, &grad, 3., &mut out).unwrap(), Ran::Kernel(OP));
            for i in 0..len {
                let d = wide[i] - t[i];
                prop_assert!(same(values[i], loss.value(d)), "{loss:?} of {d}: {}", values[i]);
                let want = bf16::from_f32(loss.slope(d) * (g[if each { i } else { 0 }] / 3.)).to_f32();
                prop_assert!(same(slopes[i].to_f32(), want), "{loss:?} at {d}: {}", slopes[i]);
            }
        }
    }

    #[test]
    fn sums_are_of_all_elements(len in 0usize..70, runs in 0usize..4, seed: u64, which in 0usize..4) {
        let len = len + runs * RUN;
        let finite = |seed| -> Vec<f32> { (0..len).map(|i| random_bits(seed, i as u64) as f32 / 4e9).collect() };
        let (x, t) = (finite(seed), finite(!seed));
        let first = In::host("x", Slice::F32(&x), &[len], &[1]).unwrap();
        let second = In::host("t", Slice::F32(&t), &[len], &[1]).unwrap();
        let mut got = vec![f64::NAN; len.div_ceil(RUN)];
        let size = [got.len()];
        let mut out = Out::host("out", SliceMut::F64(&mut got), &size).unwrap();
        prop_assert_eq!(sums(LOSSES[which], &first, &second, &mut out).unwrap(), Ran::Kernel(OP));
        let want: f64 = x.iter().zip(&t).map(|(x, t)| f64::from(LOSSES[which].value(x - t))).sum();
        prop_assert!((got.iter().sum::<f64>() - want).abs() <= 1e-12 * want);
    }
}

#[test]
fn f64_stays_f64_and_is_not_rounded_twice() {
    let (x, t, g) = ([1e-9f64, 3.], [0f32, 1.], [1f64]);
    let x = In::host("x", Slice::F64(&x), &[2], &[1]).unwrap();
    let t = In::host("t", Slice::F32(&t), &[2], &[1]).unwrap();
    let g = In::host("grad", Slice::F64(&g), &[1], &[1]).unwrap();
    let mut wide = [0f64; 2];
    let mut out = Out::host("out", SliceMut::F64(&mut wide), &[2]).unwrap();
    assert_eq!(losses(Square, &x, &t, &mut out).unwrap(), Ran::Kernel(OP));
    assert_eq!(wide, [1e-18, 4.]);
    let mut out = Out::host("out", SliceMut::F64(&mut wide), &[2]).unwrap();
    assert_eq!(gradient(Square, &x, &t, &g, 2., &mut out).unwrap(), Ran::Kernel(OP));
    assert_eq!(wide, [1e-9, 2.]);
    let mut narrow = [f16::ZERO; 2];
    let mut out = Out::host("out", SliceMut::F16(&mut narrow), &[2]).unwrap();
    assert_eq!(losses(Square, &x, &t, &mut out).unwrap(), Ran::Composed(Why::Dtype("the result")));
    let mut out = Out::host("out", SliceMut::F64(&mut wide), &[2]).unwrap();
    assert!(matches!(sums(Square, &x, &t, &mut out), Err(Error::LengthMismatch { .. })));
}
