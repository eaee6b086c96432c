//! What is marked, against every pair of a row and one that it sees.

use super::{SeenBy, finite_or_zero, spread};
use crate::buffer::{In, Out, Slice, SliceMut};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn exactly_what_sees_something_odd_is_nan(
        (batch, rows, into, width) in (1..4usize, 0..9usize, 0..9usize, 1..5usize),
        odd in proptest::collection::vec((0..4usize, 0..9usize, 0..5usize, 0..3usize), 0..4),
    ) {
        let mut x = vec![1f32; batch * rows * width];
        let mut places = Vec::new();
        for (b, j, c, what) in odd {
            if b < batch && j < rows && c < width {
                x[(b * rows + j) * width + c] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][what];
                places.push((b, j, c));
            }
        }
        let from = In::host("x", Slice::F32(&x), &[batch, rows, width], &[rows * width, width, 1]).unwrap();
        let mut clean = vec![7f32; x.len()];
        finite_or_zero(&from, &mut Out::host("out", SliceMut::F32(&mut clean), &[batch, rows, width]).unwrap()).unwrap();
        for (x, clean) in x.iter().zip(&clean) {
            prop_assert_eq!(*clean, if x.is_finite() { 1. } else { 0. });
        }
        for by in [SeenBy::Later, SeenBy::Earlier] {
            let mut target = vec![2f32; batch * into * width];
            let mut out = Out::host("out", SliceMut::F32(&mut target), &[batch, into, width]).unwrap();
            spread(&from, by, &mut out).unwrap();
            for (at, got) in target.iter().enumerate() {
                let (b, i, c) = (at / (into * width), at / width % into, at % width);
                let sees = places.iter().any(|&(ob, j, oc)| {
                    (ob, oc) == (b, c) && match by { SeenBy::Later => j <= i, SeenBy::Earlier => j >= i }
                });
                prop_assert!(if sees { got.is_nan() } else { *got == 2. }, "{at}: {got}");
            }
        }
    }
}
