//! Every type against the oracle, with NaN, infinities, subnormals and a factor of 0.

use super::{scale_by, scale_by_scalar};
use crate::buffer::{In, Out, Slice, SliceMut};
use half::{bf16, f16};
use proptest::prelude::*;

fn number() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -4f32..4.,
        1 => proptest::sample::select(vec![0., -0., f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-40, 3e38, 7e-8]),
    ]
}

fn same(got: f64, want: f64) -> bool {
    got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn each_element_is_the_oracles(x in proptest::collection::vec(number(), 0..600), factor in number()) {
        let (dims, strides) = ([x.len()], [1]);
        let factors = [factor];
        let by = In::host("factor", Slice::F32(&factors), &[1], &[1]).unwrap();
        let from = In::host("x", Slice::F32(&x), &dims, &strides).unwrap();
        let (mut single, mut half, mut brain) = (vec![7f32; x.len()], vec![f16::ONE; x.len()], vec![bf16::ONE; x.len()]);
        for out in [SliceMut::F32(&mut single), SliceMut::F16(&mut half), SliceMut::Bf16(&mut brain)] {
            scale_by(&from, &by, &mut Out::host("out", out, &dims).unwrap()).unwrap();
        }
        for (i, &x) in x.iter().enumerate() {
            let want = scale_by_scalar(x, factor);
            prop_assert!(same(single[i].into(), want.into()), "{x} times {factor}: {}", single[i]);
            prop_assert!(same(half[i].into(), f16::from_f32(want).into()), "{x} times {factor}: {}", half[i]);
            prop_assert!(same(brain[i].into(), bf16::from_f32(want).into()), "{x} times {factor}: {}", brain[i]);
        }
        let wide: Vec<f64> = x.iter().map(|&x| f64::from(x) / 3.).collect();
        let mut double = vec![7f64; x.len()];
        let from = In::host("x", Slice::F64(&wide), &dims, &strides).unwrap();
        scale_by(&from, &by, &mut Out::host("out", SliceMut::F64(&mut double), &dims).unwrap()).unwrap();
        for (&x, &got) in wide.iter().zip(&double) {
            prop_assert!(same(got, scale_by_scalar(x, factor.into())), "{x} times {factor}: {got}");
        }
    }
}
