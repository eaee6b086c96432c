//! Every shape and type against the oracle; chunks, threads and lengths.

use super::*;
use crate::Element;
use half::{bf16, f16};
use proptest::prelude::*;

/// The bound of the contract, from the terms themselves.
fn check<T: Element + Copy>(x: &[T], axes: Axes, term: Term) -> std::result::Result<(), TestCaseError> {
    let got = sum(T::floats(x), axes, term).unwrap();
    let want = sum_scalar(T::floats(x), axes, term).unwrap();
    let mut wide = vec![0f64; x.len()];
    f64::load(T::floats(x), &mut wide);
    let wide: Vec<f64> = wide.iter().map(|x| term.of(*x).abs()).collect();
    let sizes = sum_scalar(Floats::F64(&wide), axes, Term::Value).unwrap();
    prop_assert_eq!(got.len(), axes.outer * axes.inner);
    for ((got, want), size) in got.iter().zip(want).zip(sizes) {
        if want.is_finite() {
            let bound = axes.reduced as f64 * f64::EPSILON * size;
            prop_assert!((got - want).abs() <= bound, "{} for {}, {:?}", got, want, axes);
        } else {
            prop_assert!(
                got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()),
                "{} for {}",
                got,
                want
            );
        }
    }
    Ok(())
}

fn axes(sizes: (usize, usize, usize)) -> Axes {
    Axes { outer: sizes.0, reduced: sizes.1, inner: sizes.2 }
}

proptest! {
    #[test]
    fn every_shape_and_type_agrees_with_the_oracle(
        sizes in (0usize..5, 0usize..70, 0usize..20),
        seed in any::<u64>(),
        square in any::<bool>(),
        skip in 0usize..4,
    ) {
        let axes = axes(sizes);
        let term = if square { Term::Square } else { Term::Value };
        let bits = |i: usize| crate::random::random_bits(seed, i as u64);
        let len = axes.len().unwrap() + skip;
        // Raw patterns: NaN payloads, infinities, subnormals and both zeros among them.
        check(&(0..len).map(|i| f16::from_bits(bits(i) as u16)).collect::<Vec<_>>()[skip..], axes, term)?;
        check(&(0..len).map(|i| bf16::from_bits(bits(i) as u16)).collect::<Vec<_>>()[skip..], axes, term)?;
        check(&(0..len).map(|i| f32::from_bits(bits(i))).collect::<Vec<_>>()[skip..], axes, term)?;
        // Of one magnitude, so that the sums are finite.
        check(&(0..len).map(|i| f64::from(bits(i)) - 2e9).collect::<Vec<_>>()[skip..], axes, term)?;
        check(&(0..len).map(|i| bits(i) as f32 - 2e9).collect::<Vec<_>>()[skip..], axes, term)?;
    }
}

#[test]
fn chunks_and_tiles_agree_with_the_oracle() {
    for sizes in [
        (1, 70_001, 1),
        (3, 40_000, 1),
        (1, 3_000, 33),
        (2, 5, 20_000),
        (50_000, 2, 1),
        (9_000, 3, 4),
        (1, 2_500, 1_100),
    ] {
        let axes = axes(sizes);
        let value = |i: usize| (crate::random::random_bits(1, i as u64) as f32) / 1e9 - 1.5;
        let x: Vec<f32> = (0..axes.len().unwrap()).map(value).collect();
        let wide: Vec<f64> = x.iter().map(|&x| f64::from(x) * 1.1).collect();
        for term in [Term::Value, Term::Square] {
            check(&x, axes, term).unwrap();
            check(&wide, axes, term).unwrap();
        }
    }
}

#[test]
fn f64_sums_keep_what_cancels() {
    let x = [1e300, 1., -1e300, 1e-20, 3.];
    for inner in [1, 5] {
        let spread: Vec<f64> = x.iter().flat_map(|&x| vec![x; inner]).collect();
        let axes = Axes { outer: 1, reduced: 5, inner };
        assert_eq!(sum(Floats::F64(&spread), axes, Term::Value).unwrap(), vec![4.; inner]);
    }
}

#[test]
fn the_sum_does_not_depend_on_the_number_of_threads() {
    let x: Vec<f64> = (0..200_000).map(|i| f64::from(crate::random::random_bits(2, i)).sin() * 1e8).collect();
    let shapes = [(1, 200_000, 1), (1, 20_000, 10), (100, 2_000, 1), (2, 10, 10_000)].map(axes);
    let all = || shapes.map(|axes| sum(Floats::F64(&x), axes, Term::Value).unwrap());
    let with = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(all);
    assert_eq!(with(1), with(3));
}

#[test]
fn axes_that_do_not_fit_are_refused() {
    let too_many = Axes { outer: usize::MAX, reduced: 2, inner: 1 };
    assert!(sum(Floats::F32(&[1.; 6]), axes((1, 5, 1)), Term::Value).is_err());
    assert!(sum(Floats::F32(&[1.; 6]), too_many, Term::Value).is_err());
    assert_eq!(sum(Floats::F32(&[]), axes((2, 0, 3)), Term::Value).unwrap(), [0.; 6]);
}
