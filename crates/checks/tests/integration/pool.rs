//! Pooling, interpolation, `prelu` and `rope`: values, gradients and errors.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use autocast::ops::{self, InterpolateMode, PoolOptions, RopePairs};
use autocast::{Error, Result};
use candle_core::{DType, Device, Tensor};
use checks::catalogue::functions::{
    check_close, check_gradients, check_linear, to_f64, value_and_gradients, values,
};
use proptest::prelude::*;

fn line(data: &[f64]) -> Tensor {
    Tensor::from_slice(data, (1, 1, data.len()), &Device::Cpu).unwrap()
}

fn assert_near(got: &Tensor, want: &[f64]) {
    let got = to_f64(got);
    assert_eq!(got.len(), want.len(), "{got:?}");
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() < 1e-12, "{got}, want {want}");
    }
}

#[test]
fn pools_are_what_pytorch_gives() {
    let x = line(&[1., 4., 2., -3., 5., 0., 7.]);
    let overlapping = PoolOptions { kernel: [3], stride: [2], padding: [1] };
    assert_near(&ops::avg_pool1d(&x, &overlapping).unwrap(), &[5. / 3., 1., 2. / 3., 7. / 3.]);
    assert_near(&ops::max_pool1d(&x, &overlapping).unwrap(), &[4., 4., 5., 7.]);
    assert_near(&ops::max_pool1d(&x, &PoolOptions::new([2])).unwrap(), &[4., 2., 5.]);
    let image = Tensor::arange(0f64, 30., &Device::Cpu).unwrap().reshape((1, 1, 5, 6)).unwrap();
    let options = PoolOptions { kernel: [2, 3], stride: [2, 1], padding: [1, 0] };
    assert_near(
        &ops::max_pool2d(&image, &options).unwrap(),
        &[2., 3., 4., 5., 14., 15., 16., 17., 26., 27., 28., 29.],
    );
    assert_near(&ops::avg_pool2d(&image, &PoolOptions::new([5, 6])).unwrap(), &[14.5]);
    // Rows 0..3 and 2..5, columns 0..2, 1..3, 3..5 and 4..6.
    let adaptive = ops::adaptive_avg_pool2d(&image, [2, 4]).unwrap();
    assert_near(&adaptive, &[6.5, 7.5, 9.5, 10.5, 18.5, 19.5, 21.5, 22.5]);
}

#[test]
fn a_tie_goes_to_the_first_and_nan_wins() {
    let run = |t: &[Tensor]| ops::max_pool1d(&t[0], &PoolOptions::new([3]));
    let ones = Tensor::ones((1, 1, 2), DType::F64, &Device::Cpu).unwrap();
    let (_, grads) = value_and_gradients(&run, &[line(&[2., 2., 2., 1., 3., 3.])], &ones);
    assert_near(&grads[0], &[1., 0., 0., 0., 1., 0.]);
    let out =
        run(&[line(&[1., f64::NAN, 5., f64::NEG_INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY])]).unwrap();
    assert!(to_f64(&out)[0].is_nan() && to_f64(&out)[1] == f64::NEG_INFINITY);
}

#[test]
fn interpolation_is_what_pytorch_gives() {
    let x = line(&[0., 3., 6.]);
    let run = |size, mode| ops::interpolate(&x, &[size], mode).unwrap();
    let aligned = InterpolateMode::Linear { align_corners: true };
    let edges = InterpolateMode::Linear { align_corners: false };
    assert_near(&run(6, InterpolateMode::Nearest), &[0., 0., 3., 3., 6., 6.]);
    assert_near(&run(4, InterpolateMode::Nearest), &[0., 0., 3., 6.]);
    assert_near(&run(2, InterpolateMode::Nearest), &[0., 3.]);
    assert_near(&run(5, aligned), &[0., 1.5, 3., 4.5, 6.]);
    assert_near(&run(1, aligned), &[0.]);
    assert_near(&run(6, edges), &[0., 0.75, 2.25, 3.75, 5.25, 6.]);
    assert_near(&run(1, edges), &[3.]);
    let image = Tensor::new(&[[[[0., 2.], [4., 6.]]]], &Device::Cpu).unwrap();
    let out = ops::interpolate(&image, &[3, 3], aligned).unwrap();
    assert_near(&out, &[0., 1., 2., 2., 3., 4., 4., 5., 6.]);
}

#[test]
fn linear_maps_have_right_gradients_in_every_dtype() {
    let v = |dims: &[usize]| values(dims, 5);
    let window = PoolOptions { kernel: [3, 2], stride: [2, 1], padding: [1, 0] };
    check_linear("avg_pool2d", 2., &|t| ops::avg_pool2d(&t[0], &window), &[v(&[2, 2, 5, 4])]);
    check_linear("avg_pool1d", 2., &|t| ops::avg_pool1d(&t[0], &PoolOptions::new([2])), &[v(&[2, 2, 5])]);
    check_linear("adaptive", 2., &|t| ops::adaptive_avg_pool2d(&t[0], [2, 3]), &[v(&[2, 2, 5, 4])]);
    for mode in [
        InterpolateMode::Nearest,
        InterpolateMode::Linear { align_corners: true },
        InterpolateMode::Linear { align_corners: false },
    ] {
        for size in [[2, 3], [7, 8], [5, 1]] {
            check_linear(
                "interpolate 2d",
                2.,
                &|t| ops::interpolate(&t[0], &size, mode),
                &[v(&[1, 2, 5, 3])],
            );
            check_linear(
                "interpolate 1d",
                2.,
                &|t| ops::interpolate(&t[0], &size[..1], mode),
                &[v(&[1, 2, 5])],
            );
        }
    }
}

#[test]
fn other_ops_have_right_gradients_in_every_dtype() {
    let v = |dims: &[usize], seed| values(dims, seed);
    let window = PoolOptions { kernel: [3, 2], stride: [2, 1], padding: [1, 1] };
    check_close("max_pool2d", 2., &|t| ops::max_pool2d(&t[0], &window), &[v(&[2, 2, 5, 4], 1)]);
    check_close("max_pool1d", 2., &|t| ops::max_pool1d(&t[0], &PoolOptions::new([2])), &[v(&[2, 2, 5], 1)]);
    check_close("prelu, one slope", 2., &|t| ops::prelu(&t[0], &t[1]), &[v(&[2, 3, 4], 1), v(&[1], 2)]);
    check_close("prelu, by channel", 2., &|t| ops::prelu(&t[0], &t[1]), &[v(&[2, 3, 4], 1), v(&[3], 2)]);
    let (cos, sin) = (values(&[3, 2], 3).cos().unwrap(), values(&[3, 2], 3).sin().unwrap());
    for pairs in [RopePairs::Halves, RopePairs::Interleaved] {
        // cos and sin are as exact as they came: only inputs and results are rounded.
        check_close("rope", 3., &|t| ops::rope(&t[0], &cos, &sin, pairs), &[v(&[2, 2, 3, 4], 1)]);
    }
}

#[test]
fn rope_is_candle_nns() {
    let x = values(&[2, 2, 3, 4], 1).to_dtype(DType::F32).unwrap();
    let angles = values(&[3, 2], 3).to_dtype(DType::F32).unwrap();
    let (cos, sin) = (angles.cos().unwrap(), angles.sin().unwrap());
    let halves = ops::rope(&x, &cos, &sin, RopePairs::Halves).unwrap();
    assert_eq!(to_f64(&halves), to_f64(&candle_nn::rotary_emb::rope(&x, &cos, &sin).unwrap()));
    let interleaved = ops::rope(&x, &cos, &sin, RopePairs::Interleaved).unwrap();
    assert_eq!(to_f64(&interleaved), to_f64(&candle_nn::rotary_emb::rope_i(&x, &cos, &sin).unwrap()));
}

#[test]
fn prelu_keeps_infinities_out_of_the_slope() {
    let x = Tensor::new(&[f64::INFINITY, 1., -2.], &Device::Cpu).unwrap();
    let weight = Tensor::new(&[0.5], &Device::Cpu).unwrap();
    let (_, grads) =
        value_and_gradients(&|t| ops::prelu(&t[0], &t[1]), &[x.clone(), weight], &x.ones_like().unwrap());
    assert_near(&grads[0], &[1., 1., 0.5]);
    assert_near(&grads[1], &[-2.]);
}

#[test]
fn bad_input_is_a_typed_error() {
    let v = |dims: &[usize]| values(dims, 1);
    let shape = |r: Result<Tensor>| {
        assert!(matches!(&r, Err(Error::InvalidArgument { got, .. }) if got.starts_with("of shape")), "{r:?}")
    };
    let argument = |r: Result<Tensor>| assert!(matches!(r, Err(Error::InvalidArgument { .. })), "{r:?}");
    let dtype = |r: Result<Tensor>| {
        assert!(
            matches!(&r, Err(Error::InvalidArgument { expected, .. }) if expected.ends_with("; cast it")),
            "{r:?}"
        )
    };
    let pool =
        |kernel, stride, padding| PoolOptions { kernel: [kernel], stride: [stride], padding: [padding] };
    for run in [ops::avg_pool1d, ops::max_pool1d] {
        shape(run(&v(&[2, 3]), &pool(2, 2, 0)));
        shape(run(&v(&[2, 3, 0]), &pool(2, 2, 0)));
        shape(run(&v(&[2, 3, 1]), &pool(2, 2, 0)));
        argument(run(&v(&[2, 3, 4]), &pool(0, 2, 0)));
        argument(run(&v(&[2, 3, 4]), &pool(2, 0, 0)));
        argument(run(&v(&[2, 3, 4]), &pool(2, 2, 2)));
        dtype(run(&v(&[2, 3, 4]).to_dtype(DType::U8).unwrap(), &pool(2, 2, 0)));
    }
    argument(ops::adaptive_avg_pool2d(&v(&[1, 1, 2, 2]), [0, 1]));
    shape(ops::interpolate(&v(&[1, 1, 2]), &[2, 2], InterpolateMode::Nearest));
    shape(ops::interpolate(&v(&[1, 1, 0]), &[2], InterpolateMode::Nearest));
    shape(ops::interpolate(&v(&[1, 1]), &[], InterpolateMode::Nearest));
    argument(ops::interpolate(&v(&[1, 1, 2]), &[0], InterpolateMode::Nearest));
    shape(ops::prelu(&v(&[2, 3]), &v(&[2])));
    shape(ops::prelu(&v(&[2]), &v(&[2])));
    let rope = |x: &[usize], angles: &[usize]| ops::rope(&v(x), &v(angles), &v(angles), RopePairs::Halves);
    shape(rope(&[4], &[1, 2]));
    shape(rope(&[3, 5], &[3, 2]));
    shape(rope(&[3, 4], &[2, 2]));
    shape(rope(&[3, 4], &[2, 3, 2]));
    let tracked = candle_core::Var::from_tensor(&v(&[3, 2])).unwrap();
    argument(ops::rope(&v(&[3, 4]), &tracked, &v(&[3, 2]), RopePairs::Halves));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_window_has_right_gradients(
        batch in 0usize..3, length in 1usize..7, kernel in 1usize..4, stride in 1usize..4, padding in 0usize..2,
        size in 1usize..9, turned: bool,
    ) {
        let turn = |t: &Tensor| if turned { t.transpose(0, 2)?.contiguous()?.transpose(0, 2) } else { Ok(t.clone()) };
        let x = values(&[batch, 2, length], 1);
        if padding <= kernel / 2 && length + 2 * padding >= kernel {
            let options = PoolOptions { kernel: [kernel], stride: [stride], padding: [padding] };
            check_gradients("avg", &|t| ops::avg_pool1d(&turn(&t[0])?, &options), std::slice::from_ref(&x));
            check_gradients("max", &|t| ops::max_pool1d(&turn(&t[0])?, &options), std::slice::from_ref(&x));
        }
        let mode = InterpolateMode::Linear { align_corners: false };
        check_gradients("interpolate", &|t| ops::interpolate(&turn(&t[0])?, &[size], mode), std::slice::from_ref(&x));
        check_gradients("prelu", &|t| ops::prelu(&turn(&t[0])?, &t[1]), &[x, values(&[2], 2)]);
    }
}
