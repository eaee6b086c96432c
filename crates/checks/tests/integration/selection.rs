//! What is left out does not matter: masks, windows, weights of 0 and means over nothing choose instead of multiplying.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use autocast::ops::{self, CrossEntropy, InterpolateMode, NllLoss, PoolOptions, Reduction};
use autocast::{Result, backward};
use candle_core::{DType, Device, Tensor, Var};
use checks::catalogue::functions::to_f64;

const CPU: Device = Device::Cpu;
const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;
const REDUCTIONS: [Reduction; 4] = [Reduction::None, Reduction::Mean, Reduction::Sum, Reduction::BatchMean];

fn value_and_gradient(x: &Var, f: impl FnOnce(&Tensor) -> Result<Tensor>) -> (Vec<f64>, Vec<f64>) {
    let value = f(x.as_tensor()).unwrap();
    let grads = backward(ops::sum_all(&value).unwrap()).unwrap();
    (to_f64(&value), to_f64(grads.get(x.as_tensor()).expect("a gradient")))
}

/// An image of ones with `odd` at `(row, column)`.
fn image(side: usize, (row, column): (usize, usize), odd: f32) -> Tensor {
    let mut pixels = vec![1f32; side * side];
    pixels[row * side + column] = odd;
    Tensor::from_vec(pixels, (1, 1, side, side), &CPU).unwrap()
}

/// Where `x` is not 1.
fn odd_ones(x: &Tensor) -> Vec<usize> {
    to_f64(x).iter().enumerate().filter(|&(_, &v)| v != 1.).map(|(i, _)| i).collect()
}

#[test]
fn an_odd_pixel_stays_in_the_windows_that_it_is_in() {
    for odd in [NAN, INF, f32::NEG_INFINITY] {
        let x = image(6, (2, 3), odd);
        // Overlapping windows of 3 × 2 at rows 0, 2 and columns 0, 2, 4.
        let options = PoolOptions { kernel: [3, 2], stride: [2, 2], padding: [0, 0] };
        assert_eq!(odd_ones(&ops::avg_pool2d(&x, &options).unwrap()), [1, 4]);
        assert_eq!(odd_ones(&ops::adaptive_avg_pool2d(&x, [2, 3]).unwrap()), [1]);
        assert_eq!(odd_ones(&ops::adaptive_avg_pool2d(&x, [6, 6]).unwrap()), [15]);
        let line = x.reshape((1, 6, 6)).unwrap();
        assert_eq!(odd_ones(&ops::avg_pool1d(&line, &PoolOptions::new([3])).unwrap()), [5]);
    }
}

#[test]
fn an_odd_pixel_stays_where_interpolation_looks_at_it() {
    let aligned = InterpolateMode::Linear { align_corners: true };
    for odd in [NAN, INF] {
        let x = image(3, (1, 1), odd);
        let nearest = ops::interpolate(&x, &[6, 3], InterpolateMode::Nearest).unwrap();
        assert_eq!(odd_ones(&nearest), [7, 10]);
        // At a scale of 2 with fixed corners every other place is a pixel: its neighbours weigh 0.
        let linear = ops::interpolate(&x, &[5, 5], aligned).unwrap();
        assert_eq!(odd_ones(&linear), [6, 7, 8, 11, 12, 13, 16, 17, 18]);
        let corner = ops::interpolate(
            &image(2, (0, 0), odd),
            &[4, 4],
            InterpolateMode::Linear { align_corners: false },
        );
        assert_eq!(odd_ones(&corner.unwrap()), [0, 1, 2, 4, 5, 6, 8, 9, 10]);
    }
}

#[test]
fn an_odd_gradient_stays_in_its_window() {
    let x = Var::ones((1, 1, 4, 4), DType::F32, &CPU).unwrap();
    let weights = image(2, (0, 1), INF);
    let reached = |y: Tensor| {
        let loss = ops::sum_all(&ops::mul(&y, &weights).unwrap()).unwrap();
        let grads = backward(loss).unwrap();
        let odd = |(i, &v): (usize, &f64)| (!v.is_finite()).then_some(i);
        to_f64(grads.get(&x).unwrap()).iter().enumerate().filter_map(odd).collect::<Vec<_>>()
    };
    let window = [2, 3, 6, 7];
    assert_eq!(reached(ops::avg_pool2d(&x, &PoolOptions::new([2, 2])).unwrap()), window);
    assert_eq!(reached(ops::adaptive_avg_pool2d(&x, [2, 2]).unwrap()), window);
    assert_eq!(reached(ops::interpolate(&x, &[2, 2], InterpolateMode::Nearest).unwrap()), [2]);
    assert_eq!(reached(ops::max_pool2d(&x, &PoolOptions::new([2, 2])).unwrap()), [2]);
}

#[test]
fn nan_wins_a_maximum_over_infinity_and_takes_the_gradient() {
    let x = Var::new(&[[[INF, NAN, 1., 2., 3., f32::NEG_INFINITY]]], &CPU).unwrap();
    let (value, grad) = value_and_gradient(&x, |x| ops::max_pool1d(x, &PoolOptions::new([3])));
    assert!(value[0].is_nan() && value[1] == 3.);
    assert_eq!(grad, [0., 1., 0., 0., 1., 0.]);
    let x = Var::new(&[[NAN, 1., NAN, INF], [1., 4., 4., f32::NEG_INFINITY]], &CPU).unwrap();
    for (extremum, second) in
        [(ops::amax as fn(&Tensor, usize) -> _, [0., 0.5, 0.5, 0.]), (ops::amin, [0., 0., 0., 1.])]
    {
        let (value, grad) = value_and_gradient(&x, |x| extremum(x, 1));
        assert!(value[0].is_nan() && !value[1].is_nan());
        assert_eq!(grad, [[0.5, 0., 0.5, 0.], second].concat());
    }
    let all = value_and_gradient(&x, |x| ops::amax(x, (0, 1))).1;
    assert_eq!(all, [0.5, 0., 0.5, 0., 0., 0., 0., 0.]);
}

#[test]
fn a_loss_over_no_row_moves_nothing() {
    let targets = Tensor::full(7i64, (2, 2), &CPU).unwrap();
    let ignored =
        |smoothing| CrossEntropy { label_smoothing: smoothing, ignore_index: 7, ..Default::default() };
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
        // NaN and infinities in rows that are not looked at.
        let x =
            Tensor::new(&[[[0f32, NAN], [1., 2.], [INF, 4.]], [[-INF, 1.], [-INF, 1.], [-INF, 2.]]], &CPU);
        let x = Var::from_tensor(&x.unwrap().to_dtype(dtype).unwrap()).unwrap();
        for smoothing in [0., 0.3, 1.] {
            let (value, grad) =
                value_and_gradient(&x, |x| ops::cross_entropy(x, &targets, &ignored(smoothing)));
            assert!(value[0].is_nan(), "PyTorch's mean over nothing");
            assert_eq!(grad, [0.; 12], "smoothing {smoothing} in {dtype:?}");
        }
        let (value, grad) = value_and_gradient(&x, |x| {
            ops::nll_loss(x, &targets, &NllLoss { ignore_index: 7, ..Default::default() })
        });
        assert!(value[0].is_nan() && grad == [0.; 12]);
        // Classes that weigh nothing are no targets either.
        let weight = Tensor::new(&[0f32, 1., 0.], &CPU).unwrap();
        let light = Tensor::new(&[[0u32, 2], [0, 0]], &CPU).unwrap();
        let options = CrossEntropy { weight: Some(weight.clone()), ..Default::default() };
        let (value, grad) = value_and_gradient(&x, |x| ops::cross_entropy(x, &light, &options));
        assert!(value[0].is_nan() && grad == [0.; 12], "{value:?} {grad:?}");
        let (_, grad) = value_and_gradient(&x, |x| {
            ops::nll_loss(
                x,
                &light,
                &NllLoss { weight: Some(weight.clone()), ignore_index: 7, ..Default::default() },
            )
        });
        assert_eq!(grad, [0.; 12]);
    }
}

#[test]
fn an_ignored_row_does_not_matter_whatever_it_holds() {
    let kept = [[0.5f32, 1., 2.], [1.5, 0.5, 0.25]];
    let targets = Tensor::new(&[1i64, -100, 2], &CPU).unwrap();
    let weight = Tensor::new(&[2f32, 0.5, 1.], &CPU).unwrap();
    for odd in [[-INF, 1., 2.], [NAN, NAN, NAN], [INF, 0., 0.], [-INF, -INF, -INF]] {
        let x = Var::new(&[kept[0], odd, kept[1]], &CPU).unwrap();
        let plain = Var::new(&[kept[0], [0., 0., 0.], kept[1]], &CPU).unwrap();
        for reduction in REDUCTIONS {
            for (smoothing, weight) in [(0., None), (0.2, None), (0.2, Some(&weight)), (0., Some(&weight))] {
                let options = CrossEntropy {
                    label_smoothing: smoothing,
                    weight: weight.cloned(),
                    reduction,
                    ..Default::default()
                };
                let run = |x: &Var| value_and_gradient(x, |x| ops::cross_entropy(x, &targets, &options));
                assert_eq!(run(&x), run(&plain), "{odd:?} {options:?}");
            }
            let run = |x: &Var| {
                value_and_gradient(x, |x| {
                    ops::nll_loss(
                        x,
                        &targets,
                        &NllLoss { weight: Some(weight.clone()), reduction, ..Default::default() },
                    )
                })
            };
            assert_eq!(run(&x), run(&plain), "{odd:?} {reduction:?}");
        }
    }
}

#[test]
fn a_gradient_at_an_ignored_row_does_not_matter_either() {
    let x = Var::new(&[[0f32, 1.], [2., 0.]], &CPU).unwrap();
    let targets = Tensor::new(&[-100i64, 0], &CPU).unwrap();
    let options = CrossEntropy { reduction: Reduction::None, label_smoothing: 0.1, ..Default::default() };
    let upstream = Tensor::new(&[INF, 1.], &CPU).unwrap();
    let (_, grad) =
        value_and_gradient(&x, |x| ops::mul(&ops::cross_entropy(x, &targets, &options)?, &upstream));
    assert!(
        grad[..2] == [0., 0.] && grad[2] < 0. && (grad[2] + grad[3]).abs() <= f64::from(f32::EPSILON),
        "{grad:?}"
    );
}

#[test]
fn a_class_that_weighs_nothing_may_be_impossible() {
    let weight = Tensor::new(&[1f32, 0., 1.], &CPU).unwrap();
    let options = CrossEntropy { weight: Some(weight), label_smoothing: 0.3, ..Default::default() };
    let x = Var::new(&[[0f32, -INF, 1.]], &CPU).unwrap();
    let (value, grad) =
        value_and_gradient(&x, |x| ops::cross_entropy(x, &Tensor::new(&[0u32], &CPU)?, &options));
    // Two classes of odds 1 : e. The own class weighs 0.7 + 0.1, the other 0.1.
    let lse = (1. + 1f64.exp()).ln();
    assert!((value[0] - (0.8 * lse + 0.1 * (lse - 1.))).abs() < 1e-6, "{value:?}");
    assert!(grad[1] == 0. && (grad[0] + grad[2]).abs() < 1e-6, "{grad:?}");
    // The same as probabilities, of which one is 0.
    let q = Var::new(&[[0.8f32, 0., 0.1]], &CPU).unwrap();
    let (by_q, grad_by_q) = value_and_gradient(&x, |x| ops::cross_entropy(x, &q, &Default::default()));
    assert!(
        (by_q[0] - value[0]).abs() < 1e-6 && grad_by_q.iter().all(|g| g.is_finite()),
        "{by_q:?} {grad_by_q:?}"
    );
    // A row without any probability is padding.
    let x = Var::new(&[[NAN, INF, 1.], [0., 0., 0.]], &CPU).unwrap();
    let q = Tensor::new(&[[0f32, 0., 0.], [1., 0., 0.]], &CPU).unwrap();
    let (value, grad) = value_and_gradient(&x, |x| ops::cross_entropy(x, &q, &Default::default()));
    assert!((value[0] - 3f64.ln() / 2.).abs() < 1e-6 && grad[..3] == [0.; 3], "{value:?} {grad:?}");
}

#[test]
fn the_gradient_of_large_logits_is_exact() {
    for (offset, dtype) in
        [(1e7, DType::F32), (-3e8, DType::F32), (256., DType::BF16), (-4096., DType::F16), (1e15, DType::F64)]
    {
        // Multiples of what the dtype can hold there.
        let steps = [0f64, 64., 0., 32.]
            .map(|s| if dtype == DType::F64 || dtype == DType::F32 { s } else { s / 16. });
        let logits = Tensor::new(&[steps], &CPU).unwrap();
        let shifted = Var::from_tensor(&(&logits + offset).unwrap().to_dtype(dtype).unwrap()).unwrap();
        let plain = Var::from_tensor(&logits.to_dtype(dtype).unwrap()).unwrap();
        for targets in
            [Tensor::new(&[0u32], &CPU).unwrap(), Tensor::new(&[[0.5f32, 0.25, 0.25, 0.]], &CPU).unwrap()]
        {
            for smoothing in [0., 0.1] {
                let options = CrossEntropy { label_smoothing: smoothing, ..Default::default() };
                let run = |x: &Var| value_and_gradient(x, |x| ops::cross_entropy(x, &targets, &options));
                // The maximum is subtracted exactly, so nothing that follows differs.
                assert_eq!(run(&shifted), run(&plain), "{offset} in {dtype:?}, smoothing {smoothing}");
            }
        }
    }
}

#[test]
fn a_branch_not_taken_passes_no_gradient() {
    let condition = Tensor::new(&[1u8, 0, 1], &CPU).unwrap();
    let (a, b) = (Var::new(&[1f32, NAN, 3.], &CPU).unwrap(), Var::new(&[INF], &CPU).unwrap());
    let scale = Tensor::new(&[1f32, INF, NAN], &CPU).unwrap();
    let chosen = ops::mul(&ops::where_cond(&condition, &a, &b).unwrap(), &scale).unwrap();
    let grads = backward(ops::sum_all(&chosen).unwrap()).unwrap();
    let da = to_f64(grads.get(&a).unwrap());
    assert!(da[0] == 1. && da[1] == 0. && da[2].is_nan(), "{da:?}");
    assert_eq!(to_f64(grads.get(&b).unwrap()), [f64::INFINITY]);
}

#[test]
fn an_odd_pixel_stays_where_a_kernel_stands_on_it() {
    type Map = fn(&Tensor) -> Result<Tensor>;
    let maps: [(&str, Map); 2] = [
        ("conv2d", |x| {
            let options = ops::ConvOptions { padding: 1, stride: 2, dilation: 2, groups: 1 };
            ops::conv2d(x, &Tensor::ones((1, 1, 2, 2), DType::F32, &CPU)?, None, &options)
        }),
        ("conv_transpose2d", |x| {
            let options = ops::ConvTransposeOptions {
                padding: 1,
                output_padding: 1,
                stride: 3,
                dilation: 2,
                groups: 1,
            };
            ops::conv_transpose2d(x, &Tensor::ones((1, 1, 2, 2), DType::F32, &CPU)?, None, &options)
        }),
    ];
    let at = |values: &[f64], odd: fn(&f64) -> bool| -> Vec<usize> {
        values.iter().enumerate().filter(|(_, v)| odd(v)).map(|(i, _)| i).collect()
    };
    for (name, map) in maps {
        let zeros = Var::zeros((1, 1, 6, 6), DType::F32, &CPU).unwrap();
        for place in [(0, 0), (2, 3), (5, 5)] {
            // The pixel's part in each output, and each pixel's part in one output.
            let alone = ops::add_scalar(&image(6, place, 2.), -1.).unwrap();
            let want = at(&to_f64(&map(&alone).unwrap()), |&v| v != 0.);
            for odd in [NAN, INF] {
                let got = to_f64(&map(&image(6, place, odd)).unwrap());
                assert_eq!(at(&got, |v| !v.is_finite()), want, "{name} {place:?} {odd}");
            }
        }
        let (value, _) = value_and_gradient(&zeros, map);
        for output in [0, value.len() / 2, value.len() - 1] {
            let upstream = |odd: f32, rest: f32| {
                let mut weights = vec![rest; value.len()];
                weights[output] = odd;
                let y = |x: &Tensor| -> Result<Tensor> {
                    let y = map(x)?;
                    let weights = Tensor::from_vec(weights, y.dims(), &CPU)?;
                    ops::mul(&y, &weights)
                };
                value_and_gradient(&zeros, y).1
            };
            let want = at(&upstream(1., 0.), |&g| g != 0.);
            assert_eq!(at(&upstream(NAN, 1.), |g| !g.is_finite()), want, "{name} {output}");
        }
    }
}
