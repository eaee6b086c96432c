//! Every pair of types against the oracle, and places of every kind.

use half::{bf16, f16};
use proptest::prelude::*;

use super::*;
use crate::buffer::{Slice, SliceMut};
use crate::random::random_bits;

fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0., 1e-40, f32::MAX, 65504.];
    let one = |i: usize| match random_bits(seed, i as u64) {
        bits if bits % 11 == 0 => odd[(bits / 11) as usize % odd.len()],
        bits => (bits as f32 / 4e9 - 0.5) * 8.,
    };
    (0..len).map(one).collect()
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

proptest! {
    #[test]
    fn sums_of_every_type_are_the_oracles(len in 0usize..70, long: bool, seed: u64, minus: bool) {
        let len = if long { len + 40_000 } else { len };
        let sign = if minus { Sign::Minus } else { Sign::Plus };
        let (a, b) = (numbers(len, seed), numbers(len, !seed));
        let halves: Vec<f16> = b.iter().map(|&x| f16::from_f32(x)).collect();
        let brains: Vec<bf16> = b.iter().map(|&x| bf16::from_f32(x)).collect();
        let doubles: Vec<f64> = b.iter().map(|&x| x.into()).collect();
        let first = In::host("a", Slice::F32(&a), &[len], &[1]).unwrap();
        for (b, wide) in [
            (Slice::F32(&b), b.clone()),
            (Slice::F16(&halves), halves.iter().map(|x| x.to_f32()).collect()),
            (Slice::Bf16(&brains), brains.iter().map(|x| x.to_f32()).collect()),
            (Slice::F64(&doubles), b.clone()),
        ] {
            let second = In::host("b", b, &[len], &[1]).unwrap();
            let want = add_scalar(&a, &wide, sign);
            let mut got = vec![0f32; len];
            let mut out = Out::host("out", SliceMut::F32(&mut got), &[len]).unwrap();
            prop_assert_eq!(add(&first, &second, sign, &mut out).unwrap(), Ran::Kernel("add"));
            prop_assert!(got.iter().zip(&want).all(|(&a, &b)| same(a, b)));
            let mut got = vec![bf16::ZERO; len];
            let mut out = Out::host("out", SliceMut::Bf16(&mut got), &[len]).unwrap();
            if add(&first, &second, sign, &mut out).unwrap() == Ran::Kernel("add") {
                prop_assert!(got.iter().zip(&want).all(|(a, &b)| same(a.to_f32(), bf16::from_f32(b).to_f32())));
            }
        }
    }

    #[test]
    fn a_second_operand_is_repeated(period in 1usize..70, times in 0usize..5, long: bool, seed: u64) {
        let times = if long { times + 40_000 / period } else { times };
        let len = period * times;
        let (a, b) = (numbers(len, seed), numbers(period, !seed));
        let brains: Vec<bf16> = b.iter().map(|&x| bf16::from_f32(x)).collect();
        let narrow: Vec<f32> = brains.iter().map(|x| x.to_f32()).collect();
        let first = In::host("a", Slice::F32(&a), &[len], &[1]).unwrap();
        for (b, wide) in [(Slice::F32(&b), &b), (Slice::Bf16(&brains), &narrow)] {
            let second = In::host("b", b, &[period], &[1]).unwrap();
            let mut got = vec![0f32; len];
            let mut out = Out::host("out", SliceMut::F32(&mut got), &[len]).unwrap();
            prop_assert_eq!(add(&first, &second, Sign::Minus, &mut out).unwrap(), Ran::Kernel("add"));
            prop_assert!(got.iter().zip(add_scalar(&a, wide, Sign::Minus)).all(|(&a, b)| same(a, b)));
            let mut odd = vec![0f32; len + 1];
            let size = [odd.len()];
            let mut out = Out::host("out", SliceMut::F32(&mut odd), &size).unwrap();
            prop_assert!(add(&first, &second, Sign::Minus, &mut out).is_err());
        }
    }

    #[test]
    fn elements_reach_their_places(
        dims in prop::collection::vec(1usize..5, 0..5),
        gaps in prop::collection::vec(0usize..3, 5),
        turns in any::<u64>(),
        offset in 0usize..4,
    ) {
        // Strides with gaps between the runs, whose order is then changed.
        let mut order: Vec<usize> = (0..dims.len()).collect();
        order.sort_by_key(|&i| random_bits(turns, i as u64));
        let (mut strides, mut reach) = (vec![0; dims.len()], 1);
        for &i in &order {
            strides[i] = reach + gaps[i];
            reach += (dims[i] - 1) * strides[i];
        }
        let len: usize = dims.iter().product();
        let (x, before) = (numbers(len, turns), numbers(offset + reach, !turns));
        let among = Among { strides, offset };
        let contiguous = Among::whole(&dims).strides;
        let input = In::host("x", Slice::F32(&x), &dims, &contiguous).unwrap();
        let (mut want, mut got) = (before.clone(), before.clone());
        add_into_scalar(&x, &dims, &among, &mut want);
        let size = [got.len()];
        let mut target = Out::host("target", SliceMut::F32(&mut got), &size).unwrap();
        prop_assert_eq!(add_to_part(&input, &among, &mut target).unwrap(), Ran::Kernel("add_into"));
        prop_assert!(got.iter().zip(&want).all(|(&a, &b)| same(a, b)));
        // One element less than is reached, or two that are one.
        let mut short = before[..before.len() - 1].to_vec();
        let size = [short.len()];
        let mut target = Out::host("target", SliceMut::F32(&mut short), &size).unwrap();
        prop_assert!(add_to_part(&input, &among, &mut target).is_err());
    }
}

#[test]
fn two_indices_of_one_place_are_refused() {
    let x = [1f32; 6];
    let input = In::host("x", Slice::F32(&x), &[2, 3], &[3, 1]).unwrap();
    let mut target = [0f32; 12];
    let mut target = Out::host("target", SliceMut::F32(&mut target), &[12]).unwrap();
    for strides in [vec![2, 1], vec![0, 1], vec![3, 0], vec![1, 1], vec![usize::MAX, 1], vec![3]] {
        let among = Among { strides, offset: 0 };
        assert!(add_to_part(&input, &among, &mut target).is_err(), "{among:?}");
    }
}

proptest! {
    #[test]
    fn a_row_is_added_to_all(width in 1usize..70, rows in 0usize..5, long: bool, seed: u64) {
        let rows = if long { rows + 40_000 / width } else { rows };
        let (row, before) = (numbers(width, seed), numbers(width * rows, !seed));
        let input = In::host("row", Slice::F32(&row), &[width], &[1]).unwrap();
        let mut got = before.clone();
        let size = [got.len()];
        let mut target = Out::host("target", SliceMut::F32(&mut got), &size).unwrap();
        prop_assert_eq!(add_to_rows(&input, &mut target).unwrap(), Ran::Kernel("add_row"));
        for (i, (&got, &before)) in got.iter().zip(&before).enumerate() {
            prop_assert!(same(got, before + row[i % width]));
        }
        let mut odd = vec![0f32; width * rows + 1];
        let size = [odd.len()];
        let mut target = Out::host("target", SliceMut::F32(&mut odd), &size).unwrap();
        prop_assert_eq!(add_to_rows(&input, &mut target).is_err(), width > 1);
    }
}
