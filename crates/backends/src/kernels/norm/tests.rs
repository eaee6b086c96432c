//! Every instruction set, type and layout against the oracle.

use super::*;
use crate::buffer::{Slice, SliceMut};
use crate::random::random_bits;
use half::{bf16, f16};
use proptest::prelude::*;

/// Numbers in storage of one of the float types.
#[derive(Clone, Debug)]
pub(in crate::kernels) enum Stored {
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl Stored {
    pub(in crate::kernels) fn of(kind: usize, x: &[f64]) -> Self {
        match kind {
            0 => Self::F16(x.iter().map(|&x| f16::from_f32(x as f32)).collect()),
            1 => Self::Bf16(x.iter().map(|&x| bf16::from_f32(x as f32)).collect()),
            2 => Self::F32(x.iter().map(|&x| x as f32).collect()),
            _ => Self::F64(x.to_vec()),
        }
    }

    pub(in crate::kernels) fn slice(&self) -> Slice<'_> {
        match self {
            Self::F16(x) => Slice::F16(x),
            Self::Bf16(x) => Slice::Bf16(x),
            Self::F32(x) => Slice::F32(x),
            Self::F64(x) => Slice::F64(x),
        }
    }

    pub(in crate::kernels) fn slice_mut(&mut self) -> SliceMut<'_> {
        match self {
            Self::F16(x) => SliceMut::F16(x),
            Self::Bf16(x) => SliceMut::Bf16(x),
            Self::F32(x) => SliceMut::F32(x),
            Self::F64(x) => SliceMut::F64(x),
        }
    }

    pub(in crate::kernels) fn values(&self) -> Vec<f64> {
        match self {
            Self::F16(x) => x.iter().map(|x| x.to_f64()).collect(),
            Self::Bf16(x) => x.iter().map(|x| x.to_f64()).collect(),
            Self::F32(x) => x.iter().map(|&x| f64::from(x)).collect(),
            Self::F64(x) => x.clone(),
        }
    }

    /// Half the spacing beside 1, and the smallest number.
    fn unit(&self) -> (f64, f64) {
        match self {
            Self::F16(_) => (2f64.powi(-11), 2f64.powi(-24)),
            Self::Bf16(_) => (2f64.powi(-8), 2f64.powi(-133)),
            Self::F32(_) => (2f64.powi(-24), 2f64.powi(-149)),
            Self::F64(_) => (2f64.powi(-53), 2f64.powi(-1074)),
        }
    }
}

pub(in crate::kernels) fn numbers(seed: u64, len: usize, offset: f64) -> Vec<f64> {
    (0..len).map(|i| f64::from(random_bits(seed, i as u64) as i32) / 1e9 + offset).collect()
}

pub(in crate::kernels) fn close(got: &Stored, want: &[f64], size: impl Fn(usize) -> f64, what: &str) {
    let inside = if matches!(got, Stored::F64(_)) { 2f64.powi(-53) } else { 2f64.powi(-24) };
    let (u, smallest) = got.unit();
    for (i, (got, &want)) in got.values().into_iter().zip(want).enumerate() {
        assert_eq!(got.is_nan(), want.is_nan(), "{what} {i}: {got} for {want}");
        if want.is_nan() || (got.is_infinite() && want.abs() * (1. + u) >= 65504.) {
            continue;
        }
        // Eight roundings inside of what is added up, one of the result.
        let bound = 8. * inside * size(i) + u * want.abs() + smallest;
        assert!((got - want).abs() <= bound, "{what} {i}: {got} for {want}, off by more than {bound}");
    }
}

/// Rows of a matrix that is `gap` wider than they are, after `skip` elements.
struct Case {
    norm: Norm,
    count: usize,
    gap: usize,
    skip: usize,
    kinds: [usize; 4],
    affine: bool,
}

fn check(case: &Case, numbers: impl Fn(u64, usize) -> Vec<f64>) {
    let Case { norm, count, gap, skip, kinds, affine } = *case;
    let (width, pitch) = (norm.width, norm.width + gap);
    let x = Stored::of(kinds[0], &numbers(1, count * pitch + skip));
    let dy = Stored::of(kinds[1], &numbers(2, count * width));
    let [weight, bias] = [3, 4].map(|seed| Stored::of(kinds[2], &numbers(seed, width)));
    let rows = |x: &Stored| -> Vec<f64> {
        let x = x.values();
        (0..count).flat_map(|r| x[skip + r * pitch..][..width].to_vec()).collect()
    };
    let (wx, wdy, ww, wb) = (rows(&x), dy.values(), weight.values(), bias.values());
    let (ww, wb) = (affine.then_some(&ww[..]), affine.then_some(&wb[..]));
    let (want, want_saved) = forward_scalar(norm, &wx, ww, wb);
    let x_in = In::host("x", x.slice().from(skip), &[count, width], &[pitch, 1]).unwrap();
    let dy_in = In::host("dy", dy.slice(), &[count, width], &[width, 1]).unwrap();
    let [w_in, b_in] = [&weight, &bias].map(|p| In::host("w", p.slice(), &[width], &[1]).unwrap());
    let inputs = Inputs { x: &x_in, weight: affine.then_some(&w_in), bias: affine.then_some(&b_in) };
    for isa in Isa::available() {
        let mut y = Stored::of(kinds[3], &vec![7.; count * width]);
        let mut saved = vec![7.; count * STATISTICS];
        let mut y_out = Out::host("y", y.slice_mut(), &[count, width]).unwrap();
        let mut saved_out = Out::host("s", SliceMut::F64(&mut saved), &[count, STATISTICS]).unwrap();
        let seen = x_in.rows(width).unwrap();
        let ran = host::forward(isa, norm, (x_in.host_place(), seen), inputs, &mut y_out, &mut saved_out);
        assert!(matches!(ran, Ran::Kernel(_)));
        let scale = |i: usize| ww.map_or(1., |w| w[i % width].abs());
        // The normalised values themselves, before a bias may cancel them.
        let (plain, _) = forward_scalar(norm, &wx, None, None);
        let size = |i: usize| plain[i].abs().max(1.) * scale(i) + wb.map_or(0., |b| b[i % width].abs());
        close(&y, &want, size, "y");
        for (i, (got, want)) in saved.iter().zip(&want_saved).enumerate() {
            // What is lost of a mean that is no number means nothing.
            let same = i % STATISTICS == 1 && want.is_nan();
            let same = same || got == want || (got.is_nan() && want.is_nan());
            assert!(same || (got - want).abs() <= 1e-6 * want.abs().max(1e-6), "{got} for {want}");
        }

        let [mut dx, dw, db] = backward_scalar(norm, &wdy, &wx, ww, &want_saved);
        // With and without what goes around the norm.
        let add = skip % 2 == 1;
        let around: Vec<f64> =
            (0..dx.len()).map(|i| if add { (i * 37 % 11) as f64 - 5. } else { 0. }).collect();
        dx.iter_mut().zip(&around).for_each(|(dx, plus)| *dx += plus);
        let wide = if kinds[0] == 3 { 3 } else { 2 };
        let mut outs = [(kinds[3], count * width), (wide, width), (wide, width)]
            .map(|(kind, len)| Stored::of(kind, &vec![7.; len]));
        let [gx, gw, gb] = &mut outs;
        let mut gx = Out::host("dx", gx.slice_mut(), &[count, width]).unwrap();
        let [mut gw, mut gb] = [gw, gb].map(|g| Out::host("dw", g.slice_mut(), &[width]).unwrap());
        let statistics = In::host("s", Slice::F64(&saved), &[count, 3], &[3, 1]).unwrap();
        let operands = host::Operands {
            dy: (dy_in.host_place(), dy_in.rows(width).unwrap()),
            x: (x_in.host_place(), seen),
            weight: inputs.weight,
            statistics: &statistics,
        };
        let plus = Stored::of(kinds[3], &around);
        let plus = In::host("plus", plus.slice(), &[count, width], &[width, 1]).unwrap();
        let (weight, bias) = (Some(&mut gw), Some(&mut gb));
        let grads = GradientsOut { x: Some(&mut gx), plus: add.then_some(&plus), weight, bias };
        assert!(matches!(host::backward(isa, norm, operands, grads), Ran::Kernel(_)));
        let scaled = |i: usize| (wdy[i] * scale(i)).abs();
        let term = |i: usize| scaled(i) * plain[i].abs().max(1.);
        let most = |r: usize| (r * width..(r + 1) * width).map(term).fold(0., f64::max);
        let largest: Vec<f64> = (0..count).map(most).collect();
        let row_size = |i: usize| {
            let rstd = want_saved[i / width * STATISTICS + 2].abs();
            3. * largest[i / width] * plain[i].abs().max(1.) * rstd + around[i].abs()
        };
        close(&outs[0], &dx, row_size, "dx");
        let column = |i: usize, n: &dyn Fn(usize) -> f64| -> f64 {
            (0..count).map(|r| (wdy[r * width + i] * n(r * width + i)).abs()).sum()
        };
        close(&outs[1], &dw, |i| column(i, &|j| plain[j].abs().max(1.)), "dweight");
        close(&outs[2], &db, |i| column(i, &|_| 1.), "dbias");
    }
}

fn norm(width: usize, centre: Centre) -> Norm {
    Norm { centre, width, eps: 1e-5 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_type_and_layout_agrees_with_the_oracle(
        (width, count, gap, skip) in (1usize..=67, 0usize..6, 0usize..3, 0usize..3),
        kinds in (0usize..3, 0usize..3, 0usize..3, 0usize..3),
        all_f64 in any::<bool>(),
        (seed, offset) in (any::<u64>(), prop_oneof![Just(0.), Just(300.)]),
        (mean, affine) in (any::<bool>(), any::<bool>()),
    ) {
        let kinds = if all_f64 { [3; 4] } else { [kinds.0, kinds.1, kinds.2, kinds.3] };
        let centre = if mean { Centre::Mean } else { Centre::Zero };
        let case = Case { norm: norm(width, centre), count, gap, skip, kinds, affine };
        check(&case, |salt, len| numbers(seed ^ salt, len, if salt == 1 { offset } else { 0. }));
    }
}

#[test]
fn wide_rows_and_many_rows_are_shared_out() {
    for (width, count, kinds) in
        [(768, 200, [1, 1, 2, 1]), (4097, 20, [2, 2, 2, 2]), (3, 30_000, [0, 2, 0, 2])]
    {
        let case = Case { norm: norm(width, Centre::Mean), count, gap: 0, skip: 1, kinds, affine: true };
        check(&case, |seed, len| numbers(seed, len, 0.));
    }
}

#[test]
fn rows_with_nan_and_infinity() {
    for centre in [Centre::Mean, Centre::Zero] {
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let case =
                Case { norm: norm(20, centre), count: 3, gap: 0, skip: 0, kinds: [2; 4], affine: false };
            check(&case, |seed, len| {
                let mut x = numbers(seed, len, 0.);
                if seed == 1 {
                    x[25] = odd;
                }
                x
            });
        }
    }
}

fn plain(x: &[f32], eps: f64, centre: Centre) -> Vec<f32> {
    let norm = Norm { centre, width: x.len(), eps };
    let (mut y, mut saved) = (vec![0.; x.len()], vec![0.; 3]);
    let x_in = In::host("x", Slice::F32(x), &[x.len()], &[1]).unwrap();
    let mut y_out = Out::host("y", SliceMut::F32(&mut y), &[x.len()]).unwrap();
    let mut saved_out = Out::host("s", SliceMut::F64(&mut saved), &[3]).unwrap();
    forward(norm, Inputs { x: &x_in, weight: None, bias: None }, &mut y_out, &mut saved_out).unwrap();
    y
}

#[test]
fn offsets_and_magnitudes_at_the_ends_of_f32() {
    assert_eq!(plain(&[16_777_216., 16_777_218.], 0., Centre::Mean), [-1., 1.]);
    assert_eq!(plain(&[3e38, -3e38], 0., Centre::Mean), [1., -1.]);
    assert_eq!(plain(&[1e-44, -1e-44], 0., Centre::Mean), [1., -1.]);
    assert_eq!(plain(&[2e38, 2e38, 2e38], 0., Centre::Zero), [1.; 3]);
    assert!(plain(&[5., 5.], 0., Centre::Mean).iter().all(|y| y.is_nan()));
    assert_eq!(plain(&[5., 5.], 1e-5, Centre::Mean), [0., 0.]);
}

#[test]
fn lengths_and_types_are_checked() {
    let (x, mut y, mut saved) = ([1f32; 6], [0f32; 6], [0f64; 6]);
    let x_in = In::host("x", Slice::F32(&x), &[2, 3], &[3, 1]).unwrap();
    let short = In::host("w", Slice::F32(&x), &[2], &[1]).unwrap();
    let mut y_out = Out::host("y", SliceMut::F32(&mut y), &[2, 3]).unwrap();
    let mut saved_out = Out::host("s", SliceMut::F64(&mut saved), &[2, 3]).unwrap();
    let inputs = Inputs { x: &x_in, weight: Some(&short), bias: None };
    let n = norm(3, Centre::Mean);
    assert!(forward(n, inputs, &mut y_out, &mut saved_out).is_err());
    let inputs = Inputs { x: &x_in, weight: None, bias: None };
    let mut f64s = [0f64; 6];
    let mut wrong = Out::host("y", SliceMut::F64(&mut f64s), &[2, 3]).unwrap();
    let ran = forward(n, inputs, &mut wrong, &mut saved_out).unwrap();
    assert_eq!(ran, Ran::Composed(Why::Dtype("y")));
    let ran = forward(norm(4, Centre::Mean), inputs, &mut y_out, &mut saved_out).unwrap();
    assert_eq!(ran, Ran::Composed(Why::Shape("x")));
}
