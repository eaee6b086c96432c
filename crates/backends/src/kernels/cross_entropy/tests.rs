//! Every instruction set, type and layout against the oracle.

use super::*;
use crate::buffer::{Slice, SliceMut};
use crate::random::random_bits;
use half::{bf16, f16};
use proptest::prelude::*;

const U: f64 = 1. / 16_777_216.;

fn numbers(seed: u64, len: usize) -> Vec<f32> {
    (0..len).map(|i| random_bits(seed, i as u64) as i32 as f32 / 2e8).collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

fn whole([max, log]: [f64; 2]) -> f64 {
    max + log
}

fn loss(classes: usize, label_smoothing: f64) -> CrossEntropy {
    CrossEntropy { classes, ignore_index: -100, label_smoothing }
}

/// Runs forward, backward and backward in place on f32 rows that are `gap` apart.
fn check(loss: CrossEntropy, count: usize, gap: usize, x: &[f32], targets: &[i64]) {
    let (width, pitch) = (loss.classes, loss.classes + gap);
    let rows: Vec<f32> = (0..count).flat_map(|r| x[r * pitch..][..width].to_vec()).collect();
    let chosen: Vec<Option<usize>> = targets.iter().map(|&t| usize::try_from(t).ok()).collect();
    let (want, want_lse) = forward_scalar(loss, &wide(&rows), &chosen);
    let x_in = In::host("x", Slice::F32(x), &[count, width], &[pitch, 1]).unwrap();
    let t_in = In::host("t", Slice::I64(targets), &[count], &[1]).unwrap();
    let factors: Vec<f32> = numbers(3, count).iter().map(|f| f.abs()).collect();
    let f_in = In::host("f", Slice::F32(&factors), &[count], &[1]).unwrap();
    for isa in Isa::available() {
        let (mut losses, mut lse) = (vec![7f32; count], vec![7f64; count]);
        let seen = x_in.rows(width).unwrap();
        let one = t_in.rows(1).unwrap();
        let mut losses_out = Out::host("l", SliceMut::F32(&mut losses), &[count]).unwrap();
        let mut lse_out = Out::host("l", SliceMut::F64(&mut lse), &[count]).unwrap();
        let (x, t) = ((x_in.host_place(), seen), (t_in.host_place(), one));
        host::forward(isa, loss, x, t, &mut losses_out, &mut lse_out).unwrap();
        for r in 0..count {
            assert_eq!(losses[r].is_nan(), want[r].is_nan(), "loss {r}: {} for {}", losses[r], want[r]);
            let bound = 2. * U + U * want[r].abs() + 1e-12 * whole(want_lse[r]).abs();
            let off = (f64::from(losses[r]) - want[r]).abs();
            assert!(
                want[r].is_nan() || off <= bound || f64::from(losses[r]) == want[r],
                "loss {r}: off by {off}"
            );
        }
        let lse_in = In::host("lse", Slice::F64(&lse), &[count], &[1]).unwrap();
        let per_row = PerRow { targets: &t_in, lse: &lse_in, factors: &f_in };
        let parts: Vec<[f64; 2]> = lse.iter().map(|&lse| [lse, 0.]).collect();
        let want = backward_scalar(loss, &wide(&rows), &chosen, &parts, &wide(&factors));
        let (mut dx, mut same) = (vec![7f32; count * width], rows.clone());
        let factor_rows = f_in.rows(1).unwrap();
        let mut dx_out = Out::host("dx", SliceMut::F32(&mut dx), &[count * width]).unwrap();
        host::backward(isa, loss, Some(x), (per_row, factor_rows), &mut dx_out).unwrap();
        let mut same_out = Out::host("dx", SliceMut::F32(&mut same), &[count * width]).unwrap();
        host::backward(isa, loss, None, (per_row, factor_rows), &mut same_out).unwrap();
        for i in 0..dx.len() {
            assert!(dx[i].to_bits() == same[i].to_bits() || dx[i].is_nan() && same[i].is_nan());
            assert_eq!(dx[i].is_nan(), want[i].is_nan(), "dx {i}: {} for {}", dx[i], want[i]);
            let away = f64::from(rows[i]) - lse[i / width];
            let p = away.exp();
            let size = p * (2. * away.abs().min(1e9) + 8.)
                + 4. * (p - want[i] / f64::from(factors[i / width])).abs();
            let bound = U * f64::from(factors[i / width]) * size + 1e-44;
            let off = (f64::from(dx[i]) - want[i]).abs();
            assert!(want[i].is_nan() || off <= bound || off == 0., "dx {i}: {} for {}", dx[i], want[i]);
        }
    }
}

fn targets(seed: u64, count: usize, classes: usize) -> Vec<i64> {
    let one = |i: usize| match random_bits(seed, i as u64) {
        bits if bits % 5 == 0 => -100,
        bits => i64::from(bits / 5) % classes as i64,
    };
    (0..count).map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_layout_agrees_with_the_oracle(
        (classes, count, gap) in (1usize..=67, 0usize..6, 0usize..3),
        seed in any::<u64>(),
        smoothing in prop_oneof![Just(0.), Just(0.1), Just(1.)],
        odd in prop_oneof![Just(1f32), Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY)],
    ) {
        let mut x = numbers(seed, count * (classes + gap));
        if let Some(x) = x.get_mut(seed as usize % 400) {
            *x = odd;
        }
        check(loss(classes, smoothing), count, gap, &x, &targets(seed, count, classes));
    }
}

#[test]
fn many_classes_and_many_rows_are_shared_out() {
    for (classes, count) in [(50_257, 3), (1024, 70), (1025, 40), (2, 40_000)] {
        let x = numbers(1, classes * count);
        check(loss(classes, 0.1), count, 0, &x, &targets(2, count, classes));
    }
}

#[test]
fn many_rows_of_f64_are_shared_out() {
    let (count, l) = (40_000, loss(2, 0.1));
    let (x, targets) = (wide(&numbers(1, 2 * count)), targets(2, count, 2));
    let chosen: Vec<Option<usize>> = targets.iter().map(|&t| usize::try_from(t).ok()).collect();
    let x_in = In::host("x", Slice::F64(&x), &[count, 2], &[2, 1]).unwrap();
    let t_in = In::host("t", Slice::I64(&targets), &[count], &[1]).unwrap();
    let (mut losses, mut lse) = (vec![7f64; count], vec![7f64; 2 * count]);
    let mut losses_out = Out::host("l", SliceMut::F64(&mut losses), &[count]).unwrap();
    let mut lse_out = Out::host("l", SliceMut::F64(&mut lse), &[count, 2]).unwrap();
    forward(l, &x_in, &t_in, &mut losses_out, &mut lse_out).unwrap();
    let (want, want_lse) = forward_scalar(l, &x, &chosen);
    assert!(losses == want && lse == want_lse.as_flattened());
    let mut dx = x.clone();
    let lse_in = In::host("lse", Slice::F64(&lse), &[count, 2], &[2, 1]).unwrap();
    let f_in = In::host("f", Slice::F64(&[0.5]), &[count], &[0]).unwrap();
    let mut dx_out = Out::host("dx", SliceMut::F64(&mut dx), &[2 * count]).unwrap();
    backward(l, None, PerRow { targets: &t_in, lse: &lse_in, factors: &f_in }, &mut dx_out).unwrap();
    assert!(dx == backward_scalar(l, &x, &chosen, &want_lse, &vec![0.5; count]));
}

#[test]
fn a_large_maximum_does_not_round_the_logarithm_away() {
    check(loss(2, 0.), 1, 0, &[16_777_216., 16_777_216.], &[1]);
    check(loss(3, 0.), 1, 0, &[f32::NEG_INFINITY, 3e38, -3e38], &[1]);
    // Beside 2⁶⁰ an f64 has no room for ln 2.
    let (losses, lse) = forward_scalar(loss(2, 0.), &[2f64.powi(60); 2], &[Some(1)]);
    assert!((losses[0] - std::f64::consts::LN_2).abs() < 1e-15, "{}", losses[0]);
    let dx = backward_scalar(loss(2, 0.), &[2f64.powi(60); 2], &[Some(1)], &lse, &[1.]);
    assert!((dx[0] - 0.5).abs() < 1e-15 && (dx[1] + 0.5).abs() < 1e-15, "{dx:?}");
}

#[test]
fn sixteen_bits_f64_and_other_targets() {
    let x = numbers(4, 60);
    let halves: Vec<f16> = x.iter().map(|&x| f16::from_f32(x)).collect();
    let back: Vec<f64> = halves.iter().map(|x| x.to_f64()).collect();
    let (ids, l) = ([3u32, 19, 0], loss(20, 0.));
    let chosen = [Some(3), Some(19), Some(0)];
    let (want, want_lse) = forward_scalar(l, &back, &chosen);
    let (mut losses, mut lse) = ([0f32; 3], [0f64; 3]);
    let x_in = In::host("x", Slice::F16(&halves), &[3, 20], &[20, 1]).unwrap();
    let t_in = In::host("t", Slice::U32(&ids), &[3], &[1]).unwrap();
    let mut losses_out = Out::host("l", SliceMut::F32(&mut losses), &[3]).unwrap();
    let mut lse_out = Out::host("l", SliceMut::F64(&mut lse), &[3]).unwrap();
    forward(l, &x_in, &t_in, &mut losses_out, &mut lse_out).unwrap();
    for r in 0..3 {
        assert!((f64::from(losses[r]) - want[r]).abs() < 1e-6 && (lse[r] - whole(want_lse[r])).abs() < 1e-6);
    }
    // One factor for all rows, by a stride of 0; the gradient in bf16.
    let factor = [0.25f64];
    let f_in = In::host("f", Slice::F64(&factor), &[3], &[0]).unwrap();
    let lse_in = In::host("lse", Slice::F64(&lse), &[3], &[1]).unwrap();
    let mut dx = [bf16::ZERO; 60];
    let mut dx_out = Out::host("dx", SliceMut::Bf16(&mut dx), &[3, 20]).unwrap();
    let per_row = PerRow { targets: &t_in, lse: &lse_in, factors: &f_in };
    backward(l, Some(&x_in), per_row, &mut dx_out).unwrap();
    let want = backward_scalar(l, &back, &chosen, &lse.map(|lse| [lse, 0.]), &[0.25; 3]);
    for (dx, want) in dx.iter().zip(want) {
        assert!((dx.to_f64() - want).abs() <= want.abs() * 2f64.powi(-8) + 1e-7, "{dx} for {want}");
    }
    let x64 = wide(&x);
    let x_in = In::host("x", Slice::F64(&x64), &[3, 20], &[20, 1]).unwrap();
    let (mut losses, mut lse) = ([0f64; 3], [0f64; 6]);
    let mut losses_out = Out::host("l", SliceMut::F64(&mut losses), &[3]).unwrap();
    let mut lse_out = Out::host("l", SliceMut::F64(&mut lse), &[3, 2]).unwrap();
    forward(l, &x_in, &t_in, &mut losses_out, &mut lse_out).unwrap();
    let (want, want_lse) = forward_scalar(l, &x64, &chosen);
    assert_eq!((losses.to_vec(), lse.as_slice()), (want, want_lse.as_flattened()));
    let mut dx = [0f64; 60];
    let mut dx_out = Out::host("dx", SliceMut::F64(&mut dx), &[60]).unwrap();
    let lse_in = In::host("lse", Slice::F64(&lse), &[3, 2], &[2, 1]).unwrap();
    let per_row = PerRow { targets: &t_in, lse: &lse_in, factors: &f_in };
    backward(l, Some(&x_in), per_row, &mut dx_out).unwrap();
    assert_eq!(dx.to_vec(), backward_scalar(l, &x64, &chosen, &want_lse, &[0.25; 3]));
}

#[test]
fn a_target_that_is_no_class_is_refused() {
    let (x, mut losses, mut lse) = ([0f32; 6], [0f32; 2], [0f64; 2]);
    let x_in = In::host("x", Slice::F32(&x), &[2, 3], &[3, 1]).unwrap();
    for bad in [3i64, -1, i64::MIN] {
        let t = [0, bad];
        let t_in = In::host("t", Slice::I64(&t), &[2], &[1]).unwrap();
        let mut losses_out = Out::host("l", SliceMut::F32(&mut losses), &[2]).unwrap();
        let mut lse_out = Out::host("l", SliceMut::F64(&mut lse), &[2]).unwrap();
        let error =
            forward(loss(3, 0.), &x_in, &t_in, &mut losses_out, &mut lse_out).unwrap_err().to_string();
        assert!(error.contains(&bad.to_string()) && error.contains("3 classes"), "{error}");
    }
}

#[cfg(feature = "candle")]
#[test]
fn tensors_in_any_layout_and_in_place() {
    use candle_core::{DType, Device, Tensor};
    let x = Tensor::from_vec(numbers(8, 60), (10, 6), &Device::Cpu).unwrap();
    let t = Tensor::new(&[1u32, 2, 3, 4, 5, 9], &Device::Cpu).unwrap();
    let l = loss(10, 0.);
    let logits = x.t().unwrap();
    let Losses { losses, lse } = losses_of(l, &logits, &t).unwrap().unwrap();
    assert_eq!(losses.dims(), [6]);
    let factors = Tensor::new(0.5f32, &Device::Cpu).unwrap().broadcast_as(6).unwrap();
    let dx = gradient_of(l, &logits, &t, &lse, &factors, DType::F32).unwrap().unwrap();
    assert_eq!(dx.dims(), [6, 10]);
    let own = logits.contiguous().unwrap();
    assert!(matches!(gradient_in_place(l, &own, &t, &lse, &factors).unwrap(), Ran::Kernel(_)));
    assert_eq!(own.to_vec2::<f32>().unwrap(), dx.to_vec2::<f32>().unwrap());
    assert!(losses_of(l, &logits, &t.to_dtype(DType::F32).unwrap()).unwrap().is_none());
}
