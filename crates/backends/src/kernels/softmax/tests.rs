//! Every instruction set, type and layout against the oracle.

use super::*;
use crate::buffer::{Slice, SliceMut};
use crate::random::random_bits;
use half::bf16;
use proptest::prelude::*;

const FORMS: [Form; 2] = [Form::Softmax, Form::LogSoftmax];

fn numbers(seed: u64, len: usize) -> Vec<f32> {
    (0..len).map(|i| random_bits(seed, i as u64) as i32 as f32 / 2e8).collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

fn close(got: &[f64], want: &[f64], bound: impl Fn(usize) -> f64) {
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert_eq!(got.is_nan(), want.is_nan(), "{i}: {got} for {want}");
        let bound = bound(i) + 2f64.powi(-149);
        assert!(got.is_nan() || got == want || (got - want).abs() <= bound, "{i}: {got} for {want}, {bound}");
    }
}

/// f32 in and out, rows `gap` apart after `skip` elements.
fn check(width: usize, count: usize, gap: usize, skip: usize, x: &[f32], dy: &[f32]) {
    let (u, pitch) = (2f64.powi(-24), width + gap);
    let rows: Vec<f32> = (0..count).flat_map(|r| x[skip + r * pitch..][..width].to_vec()).collect();
    let causal = |rows, first| Seen::Causal { rows, first };
    let seens = [Seen::Whole, causal(3, 0), causal(3, 2), causal(2 * width, 0), causal(2, usize::MAX)];
    let forms = FORMS.into_iter().flat_map(|form| seens.map(|seen| (form, seen)));
    for ((form, seen), isa) in forms.flat_map(|form| Isa::available().map(move |isa| (form, isa))) {
        let mut y = vec![7f32; count * width];
        let x_in = In::host("x", Slice::F32(&x[skip..]), &[count, width], &[pitch, 1]).unwrap();
        let mut y_out = Out::host("y", SliceMut::F32(&mut y), &[count, width]).unwrap();
        let in_rows = x_in.rows(width).unwrap();
        host::forward(isa, form, seen, (x_in.host_place(), in_rows), &mut y_out);
        let most = |row: &[f32]| row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let maxima: Vec<f32> =
            rows.chunks(width).enumerate().map(|(i, row)| most(&row[..seen.of(i, width)])).collect();
        let want = forward_scalar(form, seen, width, &wide(&rows));
        let logs = forward_scalar(Form::LogSoftmax, seen, width, &wide(&rows));
        close(&wide(&y), &want, |i| {
            let shifted = f64::from(maxima[i / width] - rows[i]).min(1e9);
            match form {
                Form::Softmax => u * want[i] * (5. + shifted),
                Form::LogSoftmax => u * (2. * shifted + 2. * (logs[i] + shifted).abs() + 1.),
            }
        });
        let mut dx = vec![7f32; count * width];
        let y_in = In::host("y", Slice::F32(&y), &[count, width], &[width, 1]).unwrap();
        let dy_in = In::host("dy", Slice::F32(dy), &[count, width], &[width, 1]).unwrap();
        let mut dx_out = Out::host("dx", SliceMut::F32(&mut dx), &[count, width]).unwrap();
        let plain = dy_in.rows(width).unwrap();
        host::backward(isa, form, seen, (dy_in.host_place(), plain), (y_in.host_place(), plain), &mut dx_out);
        let want = backward_scalar(form, seen, width, &wide(dy), &wide(&y));
        let share = |i: usize| f64::from(y[i]);
        let term = |i: usize| match form {
            Form::Softmax => f64::from(dy[i]).abs() * share(i),
            Form::LogSoftmax => f64::from(dy[i]).abs(),
        };
        let sums: Vec<f64> = (0..count).map(|r| (r * width..(r + 1) * width).map(term).sum()).collect();
        close(&wide(&dx), &want, |i| {
            let terms = sums[i / width];
            match form {
                Form::Softmax => 6. * u * share(i) * (terms + f64::from(dy[i]).abs()),
                Form::LogSoftmax => 6. * u * (share(i).exp() * terms + f64::from(dy[i]).abs()),
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_layout_agrees_with_the_oracle(
        (width, count, gap, skip) in (1usize..=67, 0usize..5, 0usize..3, 0usize..3),
        seed in any::<u64>(),
        odd in prop_oneof![Just(1f32), Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY)],
    ) {
        let mut x = numbers(seed, count * (width + gap) + skip);
        if let Some(x) = x.get_mut(seed as usize % 400) {
            *x = odd;
        }
        check(width, count, gap, skip, &x, &numbers(!seed, count * width));
    }
}

#[test]
fn wide_rows_and_many_rows_are_shared_out() {
    for (width, count) in [(1025, 100), (40_000, 3), (2, 40_000)] {
        check(width, count, 0, 0, &numbers(5, width * count), &numbers(6, width * count));
    }
}

#[test]
fn rows_of_minus_infinity_are_nan_and_others_are_not_touched_by_it() {
    let x = [f32::NEG_INFINITY, f32::NEG_INFINITY, 0., f32::NEG_INFINITY];
    let mut y = [0f32; 4];
    let x_in = In::host("x", Slice::F32(&x), &[2, 2], &[2, 1]).unwrap();
    let mut y_out = Out::host("y", SliceMut::F32(&mut y), &[2, 2]).unwrap();
    forward(Form::Softmax, Seen::Whole, 2, &x_in, &mut y_out).unwrap();
    assert!(y[0].is_nan() && y[1].is_nan() && y[2..] == [1., 0.]);
    forward(
        Form::LogSoftmax,
        Seen::Whole,
        2,
        &x_in,
        &mut Out::host("y", SliceMut::F32(&mut y), &[2, 2]).unwrap(),
    )
    .unwrap();
    assert!(y[0].is_nan() && y[1].is_nan() && y[2..] == [0., f32::NEG_INFINITY]);
}

#[test]
fn sixteen_bits_and_f64_are_the_oracle_rounded() {
    let x = wide(&numbers(9, 99));
    let halves: Vec<bf16> = x.iter().map(|&x| bf16::from_f64(x)).collect();
    let back: Vec<f64> = halves.iter().map(|x| x.to_f64()).collect();
    for form in FORMS {
        let mut y = [bf16::ZERO; 99];
        let x_in = In::host("x", Slice::Bf16(&halves), &[3, 33], &[33, 1]).unwrap();
        forward(form, Seen::Whole, 33, &x_in, &mut Out::host("y", SliceMut::Bf16(&mut y), &[99]).unwrap())
            .unwrap();
        let y: Vec<f64> = y.iter().map(|y| y.to_f64()).collect();
        let want = forward_scalar(form, Seen::Whole, 33, &back);
        close(&y, &want, |i| want[i].abs() * 2f64.powi(-8) * 1.01);
        let mut y = [0f64; 99];
        let x_in = In::host("x", Slice::F64(&x), &[3, 33], &[33, 1]).unwrap();
        forward(form, Seen::Whole, 33, &x_in, &mut Out::host("y", SliceMut::F64(&mut y), &[99]).unwrap())
            .unwrap();
        assert_eq!(y.to_vec(), forward_scalar(form, Seen::Whole, 33, &x));
        let mut narrow = [0f32; 99];
        let mut narrow = Out::host("y", SliceMut::F32(&mut narrow), &[99]).unwrap();
        assert_eq!(
            forward(form, Seen::Whole, 33, &x_in, &mut narrow).unwrap(),
            Ran::Composed(Why::Dtype("x"))
        );
        assert_eq!(
            forward(form, Seen::Whole, 0, &x_in, &mut narrow).unwrap(),
            Ran::Composed(Why::Shape("x"))
        );
    }
}
