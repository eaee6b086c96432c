//! Every instruction set and type against the oracle.

use super::*;
use crate::buffer::{Slice, SliceMut};
use crate::kernels::norm::tests::{Stored, close, numbers};
use proptest::prelude::*;

/// Samples of numbers in types of their own: elements, their gradient, parameters, results.
struct Case {
    norm: GroupNorm,
    samples: usize,
    kinds: [usize; 4],
    affine: bool,
}

fn check(case: &Case, numbers: impl Fn(u64, usize) -> Vec<f64>) {
    let Case { norm, samples, kinds, affine } = *case;
    let (width, channels) = (norm.width(), norm.channels);
    let (len, groups) = (samples * width * norm.groups, samples * norm.groups);
    let [x, dy] = [0, 1].map(|i| Stored::of(kinds[i], &numbers(i as u64 + 1, len)));
    let [weight, bias] = [3, 4].map(|seed| Stored::of(kinds[2], &numbers(seed, channels)));
    let (wx, wdy, ww, wb) = (x.values(), dy.values(), weight.values(), bias.values());
    let (ww, wb) = (affine.then_some(&ww[..]), affine.then_some(&wb[..]));
    let (want, want_saved) = forward_scalar(norm, &wx, ww, wb);
    let (plain, _) = forward_scalar(norm, &wx, None, None);
    let [x_in, dy_in] = [&x, &dy].map(|x| In::host("x", x.slice(), &[len], &[1]).unwrap());
    let [w_in, b_in] = [&weight, &bias].map(|p| In::host("w", p.slice(), &[channels], &[1]).unwrap());
    let inputs = Inputs { x: &x_in, weight: affine.then_some(&w_in), bias: affine.then_some(&b_in) };
    let channel = |i: usize| i / norm.positions % channels;
    let scale = |i: usize| ww.map_or(1., |w| w[channel(i)].abs());
    for isa in Isa::available() {
        let (mut y, mut saved) = (Stored::of(kinds[3], &vec![7.; len]), vec![7.; groups * STATISTICS]);
        let mut y_out = Out::host("y", y.slice_mut(), &[len]).unwrap();
        let mut saved_out = Out::host("s", SliceMut::F64(&mut saved), &[groups, STATISTICS]).unwrap();
        let ran = host::forward(isa, norm, inputs, &mut y_out, &mut saved_out);
        assert_eq!(ran, Ran::Kernel(OP));
        let size = |i: usize| plain[i].abs().max(1.) * scale(i) + wb.map_or(0., |b| b[channel(i)].abs());
        close(&y, &want, size, "y");

        let [dx, dw, db] = backward_scalar(norm, &wdy, &wx, ww, &want_saved);
        let wide = if kinds[0] == 3 { 3 } else { 2 };
        let mut outs = [(kinds[3], len), (wide, channels), (wide, channels)]
            .map(|(kind, len)| Stored::of(kind, &vec![7.; len]));
        let [gx, gw, gb] = &mut outs;
        let mut gx = Out::host("dx", gx.slice_mut(), &[len]).unwrap();
        let [mut gw, mut gb] = [gw, gb].map(|g| Out::host("dw", g.slice_mut(), &[channels]).unwrap());
        let statistics = In::host("s", Slice::F64(&saved), &[groups, 3], &[3, 1]).unwrap();
        let grads = GradientsOut { x: Some(&mut gx), weight: Some(&mut gw), bias: Some(&mut gb) };
        assert_eq!(host::backward(isa, norm, &dy_in, inputs, &statistics, grads), Ran::Kernel(OP));
        let term = |i: usize| (wdy[i] * scale(i)).abs() * plain[i].abs().max(1.);
        let largest: Vec<f64> =
            (0..groups).map(|g| (g * width..(g + 1) * width).map(term).fold(0., f64::max)).collect();
        let row = |i: usize| {
            3. * largest[i / width] * plain[i].abs().max(1.) * want_saved[i / width * STATISTICS + 2].abs()
        };
        close(&outs[0], &dx, row, "dx");
        let column = |c: usize, n: &dyn Fn(usize) -> f64| -> f64 {
            (0..len).filter(|&i| channel(i) == c).map(|i| (wdy[i] * n(i)).abs()).sum()
        };
        close(&outs[1], &dw, |c| column(c, &|i| plain[i].abs().max(1.)), "dweight");
        close(&outs[2], &db, |c| column(c, &|_| 1.), "dbias");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_type_agrees_with_the_oracle(
        (groups, each, positions, samples) in (1usize..5, 1usize..4, 1usize..=67, 0usize..4),
        kinds in (0usize..3, 0usize..3, 0usize..3, 0usize..3),
        all_f64 in any::<bool>(),
        (seed, offset) in (any::<u64>(), prop_oneof![Just(0.), Just(300.)]),
        affine in any::<bool>(),
    ) {
        let kinds = if all_f64 { [3; 4] } else { [kinds.0, kinds.1, kinds.2, kinds.3] };
        let norm = GroupNorm { groups, channels: groups * each, positions, eps: 1e-5 };
        let case = Case { norm, samples, kinds, affine };
        check(&case, |salt, len| numbers(seed ^ salt, len, if salt == 1 { offset } else { 0. }));
    }
}

#[test]
fn many_groups_are_shared_out() {
    for (channels, positions, kinds) in [(64, 900, [2; 4]), (32, 1, [1; 4]), (48, 250, [3; 4])] {
        let norm = GroupNorm { groups: 16, channels, positions, eps: 1e-5 };
        check(&Case { norm, samples: 5, kinds, affine: true }, |seed, len| numbers(seed, len, 0.));
    }
}

#[test]
fn groups_with_nan_and_infinity_stay_among_themselves() {
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let norm = GroupNorm { groups: 3, channels: 6, positions: 5, eps: 1e-5 };
        check(&Case { norm, samples: 2, kinds: [2; 4], affine: false }, |seed, len| {
            let mut x = numbers(seed, len, 0.);
            if seed == 1 {
                x[25] = odd;
            }
            x
        });
    }
}

fn plain(x: &[f32], positions: usize, eps: f64) -> Vec<f32> {
    let norm = GroupNorm { groups: 1, channels: x.len() / positions, positions, eps };
    let (mut y, mut saved) = (vec![0.; x.len()], vec![0.; 3]);
    let x_in = In::host("x", Slice::F32(x), &[x.len()], &[1]).unwrap();
    let mut y_out = Out::host("y", SliceMut::F32(&mut y), &[x.len()]).unwrap();
    let mut saved_out = Out::host("s", SliceMut::F64(&mut saved), &[3]).unwrap();
    forward(norm, Inputs { x: &x_in, weight: None, bias: None }, &mut y_out, &mut saved_out).unwrap();
    y
}

#[test]
fn offsets_and_magnitudes_at_the_ends_of_f32() {
    assert_eq!(plain(&[16_777_216., 16_777_218.], 1, 0.), [-1., 1.]);
    assert_eq!(plain(&[3e38, -3e38], 2, 0.), [1., -1.]);
    assert_eq!(plain(&[1e-44, -1e-44], 1, 0.), [1., -1.]);
    assert!(plain(&[5., 5.], 2, 0.).iter().all(|y| y.is_nan()));
}

#[test]
fn lengths_and_types_are_checked() {
    let (x, mut y, mut saved) = ([1f32; 8], [0f32; 8], [0f64; 6]);
    let x_in = In::host("x", Slice::F32(&x), &[8], &[1]).unwrap();
    let short = In::host("w", Slice::F32(&x), &[2], &[1]).unwrap();
    let mut y_out = Out::host("y", SliceMut::F32(&mut y), &[8]).unwrap();
    let mut saved_out = Out::host("s", SliceMut::F64(&mut saved), &[2, 3]).unwrap();
    let norm = GroupNorm { groups: 2, channels: 4, positions: 2, eps: 1e-5 };
    let inputs = Inputs { x: &x_in, weight: Some(&short), bias: None };
    assert!(forward(norm, inputs, &mut y_out, &mut saved_out).is_err());
    let inputs = Inputs { x: &x_in, weight: None, bias: None };
    let odd = GroupNorm { groups: 3, ..norm };
    assert_eq!(forward(odd, inputs, &mut y_out, &mut saved_out).unwrap(), Ran::Composed(Why::Shape("x")));
    let mut f64s = [0f64; 8];
    let mut wrong = Out::host("y", SliceMut::F64(&mut f64s), &[8]).unwrap();
    assert_eq!(forward(norm, inputs, &mut wrong, &mut saved_out).unwrap(), Ran::Composed(Why::Dtype("y")));
}
