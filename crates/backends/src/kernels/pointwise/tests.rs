//! Each type against the f64 function and the exact rounding of it; order, threads and lengths.

use super::*;
use half::{bf16, f16};
use precision_types::{bf16_from_f64, f16_from_f64};
use proptest::prelude::*;

/// The oracle: the function of one f64 and the exact rounding of it.
fn one(function: Function, x: f64) -> f64 {
    let mut value = [x];
    function.values(&mut value);
    value[0]
}

proptest! {
    /// Raw patterns of every type: NaN payloads, infinities, subnormals and both zeros among them.
    #[test]
    fn each_type_is_the_f64_function_rounded_once(seed in any::<u64>(), len in 0usize..67, skip in 0usize..4) {
        let bits = |i: usize| crate::random::random_bits(seed, i as u64);
        let halves: Vec<f16> = (0..len + skip).map(|i| f16::from_bits(bits(i) as u16)).collect();
        let brains: Vec<bf16> = (0..len + skip).map(|i| bf16::from_bits(bits(i) as u16)).collect();
        let singles: Vec<f32> = (0..len + skip).map(|i| f32::from_bits(bits(i))).collect();
        for function in [Function::Exp, Function::Softplus, Function::Tanh, Function::Log1p, Function::Reciprocal] {
            for (got, x) in values(function, &halves[skip..]).into_iter().zip(&halves[skip..]) {
                let want = f16_from_f64(one(function, f64::from(*x)));
                prop_assert!(got == want || (got.is_nan() && want.is_nan()), "{:?} of {}", function, x);
            }
            for (got, x) in values(function, &brains[skip..]).into_iter().zip(&brains[skip..]) {
                let want = bf16_from_f64(one(function, f64::from(*x)));
                prop_assert!(got == want || (got.is_nan() && want.is_nan()), "{:?} of {}", function, x);
            }
            for (got, x) in values(function, &singles[skip..]).into_iter().zip(&singles[skip..]) {
                let want = one(function, f64::from(*x)) as f32;
                prop_assert!(got == want || (got.is_nan() && want.is_nan()), "{:?} of {}", function, x);
            }
        }
    }
}

#[test]
fn chunks_over_threads_keep_their_order() {
    let x: Vec<f32> = (0..200_000).map(|i| i as f32 / 1e4).collect();
    let grads: Vec<f64> = x.iter().map(|&x| f64::from(x) + 1.).collect();
    let got = gradients(Function::Square, &x, Floats::F64(&grads)).unwrap();
    for ((got, &x), grad) in got.into_iter().zip(&x).zip(grads) {
        assert_eq!(got, (2. * (grad * f64::from(x))) as f32);
    }
}

#[test]
fn a_gradient_of_another_length_is_refused() {
    assert!(gradients(Function::Exp, &[1f32; 3], Floats::F32(&[1.; 2])).is_err());
    assert!(pair_values(Pair::Power, &[1f32; 3], Floats::F32(&[1.; 2])).is_err());
    assert!(pair_gradients(Pair::Power, &[1f32; 3], Floats::F32(&[1.; 3]), Floats::F32(&[1.; 2])).is_err());
}
