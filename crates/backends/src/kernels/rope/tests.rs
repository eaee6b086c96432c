//! Every instruction set, of types and strides that a seed names, against the oracle.

use super::*;
use crate::buffer::{Slice, SliceMut};
use crate::kernels::norm::tests::{Stored, numbers};
use proptest::prelude::*;

/// Two dimensions of rows, as they lie or the other way around, and angles for the second of them.
fn check([outer, steps, half]: [usize; 3], kind: usize, turned: bool, pairs: Pairs, turn: Turn, odd: f64) {
    let (width, len) = (2 * half, outer * steps * 2 * half);
    let mut values = numbers(7, len, 0.);
    if let Some(one) = values.get_mut(len / 2) {
        *one = odd;
    }
    let (x, wide) = (Stored::of(kind, &values), if kind == 3 { 3 } else { 2 });
    let [cos, sin] = [8, 9].map(|seed| Stored::of(wide, &numbers(seed, steps * half, 0.)));
    let dims = [outer, steps, width];
    let strides = if turned { [width, outer * width, 1] } else { [steps * width, width, 1] };
    let x_in = In::host("x", x.slice(), &dims, &strides).unwrap();
    let angle = |x| In::host("angle", x, &[outer, steps, half], &[0, half, 1]).unwrap();
    let (cos_in, sin_in) = (angle(cos.slice()), angle(sin.slice()));
    let inputs = Inputs { x: &x_in, cos: &cos_in, sin: &sin_in };
    let (x, cos, sin) = (x.values(), cos.values(), sin.values());
    let mut want = vec![0.; len];
    for (i, t, j) in (0..outer * steps * half).map(|i| (i / (steps * half), i / half % steps, i % half)) {
        let (from, to) = (i * strides[0] + t * strides[1], (i * steps + t) * width);
        let at = if pairs == Pairs::Halves { [j, j + half] } else { [2 * j, 2 * j + 1] };
        let (pair, angles) = (at.map(|at| x[from + at]), [cos[t * half + j], sin[t * half + j]]);
        let made = match kind {
            3 => rotate_scalar(pair, angles, turn),
            _ => rotate_scalar(pair.map(|x| x as f32), angles.map(|x| x as f32), turn).map(f64::from),
        };
        at.into_iter().zip(made).for_each(|(at, made)| want[to + at] = made);
    }
    let want = Stored::of(kind, &want).values();
    for isa in Isa::available() {
        let mut out = Stored::of(kind, &vec![7.; len]);
        let mut to = Out::host("out", out.slice_mut(), &dims).unwrap();
        assert_eq!(host::rotate(isa, inputs, pairs, turn, &mut to), Ran::Kernel(OP));
        for (i, (got, want)) in out.values().into_iter().zip(&want).enumerate() {
            assert!(got == *want || got.is_nan() && want.is_nan(), "{pairs:?} {i}: {got} for {want}");
        }
    }
}

proptest! {
    #[test]
    fn every_type_and_stride_agrees_with_the_oracle(
        dims in (0usize..4, 0usize..6, 0usize..34),
        (kind, turned, halves, forth) in (0usize..4, any::<bool>(), any::<bool>(), any::<bool>()),
        odd in prop_oneof![Just(0.), Just(-0.), Just(f64::NAN), Just(f64::INFINITY), Just(1e-45)],
    ) {
        let pairs = if halves { Pairs::Halves } else { Pairs::Interleaved };
        check([dims.0, dims.1, dims.2], kind, turned, pairs, if forth { Turn::Forth } else { Turn::Back }, odd);
    }
}

#[test]
fn a_quarter_turn_and_back() {
    assert_eq!(rotate_scalar([3., 5.], [0., 1.], Turn::Forth), [-5., 3.]);
    assert_eq!(rotate_scalar([-5., 3.], [0., 1.], Turn::Back), [3., 5.]);
}

#[test]
fn many_rows_are_shared_out() {
    check([8, 300, 32], 2, true, Pairs::Halves, Turn::Forth, 1.);
    check([8, 300, 32], 1, false, Pairs::Interleaved, Turn::Back, 1.);
}

#[test]
fn dimensions_types_and_strides_are_checked() {
    let (x, mut y) = ([1f32; 8], [0f32; 8]);
    let of = |dims: [usize; 2], strides: [usize; 2]| In::host("x", Slice::F32(&x), &dims, &strides).unwrap();
    let (rows, half, apart) = (of([2, 4], [4, 1]), of([2, 2], [2, 1]), of([2, 4], [1, 2]));
    let mut out = Out::host("out", SliceMut::F32(&mut y), &[2, 4]).unwrap();
    let mut turned = |x, cos| rotate(Inputs { x, cos, sin: &half }, Pairs::Halves, Turn::Forth, &mut out);
    assert!(turned(&rows, &rows).is_err());
    assert!(turned(&half, &half).is_err());
    assert_eq!(turned(&apart, &half).unwrap(), Ran::Composed(Why::Layout("x")));
    assert_eq!(turned(&rows, &half).unwrap(), Ran::Kernel(OP));
}
