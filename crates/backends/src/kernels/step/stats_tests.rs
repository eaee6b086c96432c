//! The statistics against the oracle, on odd values, odd lengths and many tensors.

use super::stats::{BLOCK, CHUNK};
use super::*;
use crate::Floats;
use half::{bf16, f16};
use proptest::prelude::*;

fn agrees(grad: Floats<'_>, inv_scale: f32) {
    let fast = grad_stats(&[grad], inv_scale)[0];
    let slow = grad_stats_scalar(grad, inv_scale);
    let counts = |s: &GradStats| (s.len, s.non_finite, s.zeros, s.subnormal);
    assert_eq!(counts(&fast), counts(&slow), "{} elements", grad.len());
    if slow.sum_squares.is_nan() {
        assert!(fast.sum_squares.is_nan());
    } else if slow.sum_squares.is_infinite() {
        assert_eq!(fast.sum_squares, slow.sum_squares);
    } else {
        // The contract, once for each of the two sums.
        let bound = 2.0 * grad.len() as f64 * 2f64.powi(-53) * slow.sum_squares;
        assert!((fast.sum_squares - slow.sum_squares).abs() <= bound, "{fast:?} {slow:?}");
    }
}

fn all_types_agree(values: &[f64], inv_scale: f32) {
    let half: Vec<f16> = values.iter().map(|&v| f16::from_f64(v)).collect();
    let brain: Vec<bf16> = values.iter().map(|&v| bf16::from_f64(v)).collect();
    let single: Vec<f32> = values.iter().map(|&v| v as f32).collect();
    // From the second element on, so that nothing is aligned to a vector.
    for from in [0, 1.min(values.len())] {
        agrees(Floats::F16(&half[from..]), inv_scale);
        agrees(Floats::Bf16(&brain[from..]), inv_scale);
        agrees(Floats::F32(&single[from..]), inv_scale);
        agrees(Floats::F64(&values[from..]), inv_scale);
    }
}

fn ordinary(len: usize) -> Vec<f64> {
    (0..len).map(|i| ((i * 7919 + 13) % 2001) as f64 / 1e4 - 0.1).collect()
}

#[test]
fn lengths_agree_with_the_oracle() {
    for len in (0..=67).chain([BLOCK - 1, BLOCK + 1, CHUNK, CHUNK + 1, 5 * CHUNK + 77]) {
        all_types_agree(&ordinary(len), 1.0 / 65536.0);
    }
}

#[test]
fn one_odd_value_anywhere_is_counted() {
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 6.1e-5, 1e-7, -1e-300] {
        for at in [0, 1, 15, 16, 17, 511, 512, 66] {
            let mut values = ordinary(600);
            values[at] = odd;
            all_types_agree(&values, 1.0);
        }
    }
}

#[test]
fn nan_payloads_count_as_non_finite() {
    let payloads = [0x7f80_0001, 0x7fc0_0000, 0xffff_ffff, 0xff80_0001u32].map(f32::from_bits);
    assert_eq!(grad_stats(&[Floats::F32(&payloads)], 1.0)[0].non_finite, 4);
    let halves = [0x7c01, 0x7e00, 0xffff, 0xfc01u16].map(f16::from_bits);
    assert_eq!(grad_stats(&[Floats::F16(&halves)], 1.0)[0].non_finite, 4);
}

#[test]
fn a_finite_gradient_that_unscaling_makes_infinite_is_found() {
    let stats = grad_stats(&[Floats::F32(&[1e10])], 1e30)[0];
    assert!(stats.found_inf());
}

#[test]
fn thousands_of_tiny_tensors_keep_their_order() {
    let tensors: Vec<Vec<f32>> = (0..5000).map(|i| vec![i as f32; i % 4]).collect();
    let slices: Vec<Floats<'_>> = tensors.iter().map(|t| Floats::F32(t)).collect();
    for (i, stats) in grad_stats(&slices, 1.0).into_iter().enumerate() {
        assert_eq!(stats.len, (i % 4) as u64);
        assert_eq!(stats.sum_squares, (i % 4) as f64 * (i as f64) * (i as f64));
    }
}

#[test]
fn the_sum_does_not_depend_on_the_number_of_threads() {
    let values: Vec<f32> = ordinary(20 * CHUNK + 3).iter().map(|&v| v as f32).collect();
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| grad_stats(&[Floats::F32(&values)], 1.0)[0].sum_squares.to_bits())
    };
    assert_eq!(with(1), with(7));
}

proptest! {
    #[test]
    fn raw_bits_agree_with_the_oracle(bits in proptest::collection::vec(any::<u32>(), 0..300), inv in 1e-6f32..1e6) {
        let single: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
        agrees(Floats::F32(&single), inv);
        let half: Vec<f16> = bits.iter().map(|&b| f16::from_bits(b as u16)).collect();
        agrees(Floats::F16(&half), inv);
        let brain: Vec<bf16> = bits.iter().map(|&b| bf16::from_bits(b as u16)).collect();
        agrees(Floats::Bf16(&brain), inv);
    }
}
