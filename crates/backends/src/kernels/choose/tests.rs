//! Every instruction set, of types and strides that a seed names.

use super::*;
use crate::buffer::{Slice, SliceMut, Why};
use crate::kernels::binary::tests::{numbers, strides};
use crate::kernels::norm::tests::Stored;
use crate::random::random_bits;
use proptest::prelude::*;

/// Which operand is turned, and along which dimensions each is repeated: the condition, `a` and `b`.
type Masks = [(bool, usize); 3];

fn check(dims: &[usize], kinds: [usize; 3], masks: Masks, seed: u64) {
    let count: usize = dims.iter().product();
    let steps = masks.map(|(turned, repeated)| strides(dims, turned, repeated));
    let asked: Vec<u8> =
        (0..count).map(|i| random_bits(seed, i as u64) as u8).map(|x| if x < 128 { 0 } else { x }).collect();
    let x = [0, 1].map(|i| Stored::of(kinds[i], &numbers(seed + i as u64, count)));
    let condition = In::host("condition", Slice::U8(&asked), dims, &steps[0]).unwrap();
    let [a, b] = [0, 1].map(|i| In::host("x", x[i].slice(), dims, &steps[i + 1]).unwrap());
    let values = x.each_ref().map(Stored::values);
    let place = |i: usize, mut index: usize| -> usize {
        let mut at = 0;
        for (size, step) in dims.iter().zip(&steps[i]).rev() {
            at += index % size * step;
            index /= size;
        }
        at
    };
    let chosen = |i: usize| match asked[place(0, i)] {
        0 => values[1][place(2, i)],
        _ => values[0][place(1, i)],
    };
    let want = Stored::of(kinds[2], &(0..count).map(chosen).collect::<Vec<_>>()).values();
    for isa in Isa::available() {
        let mut out = Stored::of(kinds[2], &vec![7.; count]);
        let mut to = Out::host("out", out.slice_mut(), dims).unwrap();
        assert_eq!(host::choose(isa, &condition, &a, &b, &mut to), Ran::Kernel(OP));
        for (i, (got, want)) in out.values().into_iter().zip(&want).enumerate() {
            let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
            assert!(same, "{dims:?} {kinds:?} {masks:?} {i}: {got} for {want}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn every_type_and_stride_chooses_as_asked(
        dims in prop::collection::vec(1usize..9, 0..5),
        (kinds, wide) in ((0usize..3, 0usize..3, 0usize..3), any::<bool>()),
        masks in prop::array::uniform3((any::<bool>(), 0usize..32)),
        seed in 0u64..u64::MAX - 1,
    ) {
        let kinds = if wide { [kinds.0, 3, 3] } else { [kinds.0, kinds.1, kinds.2] };
        check(&dims, kinds, masks, seed);
    }
}

#[test]
fn long_rows_and_many_rows_are_shared_out() {
    for (dims, masks) in [
        ([3, 30_001], [(false, 0), (false, 1), (false, 3)]),
        ([30_001, 3], [(true, 0), (false, 0), (false, 2)]),
        ([200, 300], [(false, 2), (false, 1), (false, 0)]),
    ] {
        check(&dims, [2, 1, 2], masks, 5);
    }
}

/// A NaN that is chosen keeps its bits where nothing is rounded.
#[test]
fn what_is_chosen_is_not_touched() {
    let odd = [f32::from_bits(0x7F80_0001), f32::from_bits(0xFFC1_2345), -0.];
    let (asked, mut out) = ([1u8, 0, 9], [0f32; 3]);
    let x = In::host("x", Slice::F32(&odd), &[3], &[1]).unwrap();
    let condition = In::host("condition", Slice::U8(&asked), &[3], &[1]).unwrap();
    let mut to = Out::host("out", SliceMut::F32(&mut out), &[3]).unwrap();
    assert_eq!(choose(&condition, &x, &x, &mut to).unwrap(), Ran::Kernel(OP));
    assert_eq!(out.map(f32::to_bits), odd.map(f32::to_bits));
}

#[test]
fn dimensions_and_types_are_checked() {
    let (x, mut y, wide, asked) = ([1f32; 6], [0f32; 6], [1f64; 6], [1u8; 6]);
    let a = In::host("a", Slice::F32(&x), &[2, 3], &[3, 1]).unwrap();
    let b = In::host("b", Slice::F32(&x), &[3, 2], &[2, 1]).unwrap();
    let c = In::host("c", Slice::F64(&wide), &[2, 3], &[3, 1]).unwrap();
    let condition = In::host("condition", Slice::U8(&asked), &[2, 3], &[3, 1]).unwrap();
    let mut out = Out::host("out", SliceMut::F32(&mut y), &[2, 3]).unwrap();
    assert!(choose(&condition, &a, &b, &mut out).is_err());
    assert_eq!(choose(&condition, &a, &c, &mut out).unwrap(), Ran::Composed(Why::Dtype("b")));
    assert_eq!(choose(&a, &a, &a, &mut out).unwrap(), Ran::Composed(Why::Dtype("the condition")));
}
