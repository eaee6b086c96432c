//! Every instruction set, of types and strides that a seed names, against the oracle.

use super::*;
use crate::buffer::{Slice, SliceMut, Why};
use crate::kernels::norm::tests::Stored;
use crate::random::random_bits;
use proptest::prelude::*;

const ALL: [Binary; 4] = [Binary::Plus, Binary::Minus, Binary::Times, Binary::Over];

/// Numbers of all sizes, and those that have none.
pub(in crate::kernels) fn numbers(seed: u64, len: usize) -> Vec<f64> {
    const ODD: [f64; 8] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0., -0., 1e-45, 65504., 3e38];
    let number = |i: usize| {
        let bits = random_bits(seed, i as u64);
        if bits.is_multiple_of(7) { ODD[bits as usize / 7 % 8] } else { f64::from(bits as i32) / 1e9 }
    };
    (0..len).map(number).collect()
}

/// Strides of an operand of these dimensions, in another order of them, and 0 where the mask says so.
pub(in crate::kernels) fn strides(dims: &[usize], turned: bool, repeated: usize) -> Vec<usize> {
    let mut strides = vec![0; dims.len()];
    let mut step = 1;
    let mut order: Vec<usize> = (0..dims.len()).rev().collect();
    if turned {
        order.reverse();
    }
    for i in order.into_iter().filter(|i| repeated >> i & 1 == 0) {
        strides[i] = step;
        step *= dims[i];
    }
    strides
}

fn check(of: Binary, dims: &[usize], kinds: [usize; 3], masks: [(bool, usize); 2], seed: u64) {
    let count: usize = dims.iter().product();
    let steps = masks.map(|(turned, repeated)| strides(dims, turned, repeated));
    let x = [0, 1].map(|i| Stored::of(kinds[i], &numbers(seed + i as u64, count.max(1))));
    let [a, b] = [0, 1].map(|i| In::host("x", x[i].slice(), dims, &steps[i]).unwrap());
    let values = x.each_ref().map(Stored::values);
    let place = |i: usize, mut index: usize| -> f64 {
        let mut at = 0;
        for (size, step) in dims.iter().zip(&steps[i]).rev() {
            at += index % size * step;
            index /= size;
        }
        values[i][at]
    };
    let exact: Vec<f64> =
        (0..count).map(|index| binary_scalar(of, place(0, index), place(1, index))).collect();
    // By way of f32, unless all of it is f64.
    let wide = kinds[2] == 3;
    let once: Vec<f64> = exact.iter().map(|&x| if wide { x } else { f64::from(x as f32) }).collect();
    let want = Stored::of(kinds[2], &once).values();
    for isa in Isa::available() {
        let mut out = Stored::of(kinds[2], &vec![7.; count]);
        let mut to = Out::host("out", out.slice_mut(), dims).unwrap();
        assert_eq!(host::binary(isa, of, &a, &b, &mut to), Ran::Kernel(OP));
        for (i, (got, want)) in out.values().into_iter().zip(&want).enumerate() {
            let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
            assert!(same, "{of:?} {dims:?} {kinds:?} {i}: {got} for {want}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn every_type_and_stride_agrees_with_the_oracle(
        dims in prop::collection::vec(1usize..9, 0..5),
        (kinds, wide) in ((0usize..3, 0usize..3, 0usize..3), any::<bool>()),
        masks in ((any::<bool>(), 0usize..32), (any::<bool>(), 0usize..32)),
        (which, seed) in (0usize..4, 0u64..u64::MAX - 1),
    ) {
        let kinds = if wide { [kinds.0, 3, 3] } else { [kinds.0, kinds.1, kinds.2] };
        check(ALL[which], &dims, kinds, [masks.0, masks.1], seed);
    }
}

#[test]
fn long_rows_and_many_rows_are_shared_out() {
    for (dims, masks) in [
        ([3, 30_001], [(false, 0), (false, 1)]),
        ([30_001, 3], [(false, 0), (true, 0)]),
        ([200, 300], [(false, 2), (false, 1)]),
    ] {
        check(Binary::Times, &dims, [2, 1, 2], masks, 5);
    }
}

#[test]
fn dimensions_and_types_are_checked() {
    let (x, mut y, wide) = ([1f32; 6], [0f32; 6], [1f64; 6]);
    let a = In::host("a", Slice::F32(&x), &[2, 3], &[3, 1]).unwrap();
    let b = In::host("b", Slice::F32(&x), &[3, 2], &[2, 1]).unwrap();
    let c = In::host("c", Slice::F64(&wide), &[2, 3], &[3, 1]).unwrap();
    let mut out = Out::host("out", SliceMut::F32(&mut y), &[2, 3]).unwrap();
    assert!(binary(Binary::Plus, &a, &b, &mut out).is_err());
    let ran = binary(Binary::Plus, &a, &c, &mut out).unwrap();
    assert_eq!(ran, Ran::Composed(Why::Dtype("b")));
}
