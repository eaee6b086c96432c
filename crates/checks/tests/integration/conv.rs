//! Convolutions and transposed convolutions: values, gradients, shapes and errors.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use autocast::ops::{
    self, ConvOptions, ConvTransposeOptions, conv_transpose1d, conv_transpose2d, conv1d, conv2d,
};
use autocast::{Error, Result};
use candle_core::{DType, Device, Tensor, Var};
use checks::catalogue::functions::{check_gradients, check_linear, to_f64, values};
use proptest::prelude::*;

/// The sum of the definition. `input` and `weight` have two spatial dimensions.
fn by_hand(input: &Tensor, weight: &Tensor, o: &ConvOptions) -> Vec<f64> {
    let (batch, channels, height, width) = input.dims4().unwrap();
    let (out, group_channels, kh, kw) = weight.dims4().unwrap();
    let (x, w) = (to_f64(input), to_f64(weight));
    let size = |n: usize, k: usize| (n + 2 * o.padding - o.dilation * (k - 1) - 1) / o.stride + 1;
    let at = |b: usize, c: usize, row: usize, column: usize| -> f64 {
        match (row.checked_sub(o.padding), column.checked_sub(o.padding)) {
            (Some(r), Some(s)) if r < height && s < width => x[((b * channels + c) * height + r) * width + s],
            _ => 0.,
        }
    };
    let mut result = Vec::new();
    for b in 0..batch {
        for f in 0..out {
            let group = f / (out / o.groups);
            for r in 0..size(height, kh) {
                for s in 0..size(width, kw) {
                    let mut sum = 0.;
                    for c in 0..group_channels {
                        for i in 0..kh {
                            for j in 0..kw {
                                let tap = w[((f * group_channels + c) * kh + i) * kw + j];
                                let (row, column) =
                                    (r * o.stride + i * o.dilation, s * o.stride + j * o.dilation);
                                sum += tap * at(b, group * group_channels + c, row, column);
                            }
                        }
                    }
                    result.push(sum);
                }
            }
        }
    }
    result
}

fn assert_near(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() < 1e-12, "{got}, want {want}");
    }
}

fn inner(a: &Tensor, b: &Tensor) -> f64 {
    to_f64(a).iter().zip(to_f64(b)).map(|(a, b)| a * b).sum()
}

#[test]
fn gradients_and_dtypes_agree() {
    checks::catalogue::check::check_all(checks::catalogue::cases_conv::CASES, &Device::Cpu);
}

#[test]
fn conv2d_is_the_definition() {
    for (stride, padding, dilation, groups) in
        [(1, 0, 1, 1), (2, 1, 1, 1), (1, 2, 2, 1), (3, 1, 2, 2), (2, 0, 1, 4)]
    {
        let o = ConvOptions { stride, padding, dilation, groups };
        let (x, w) = (values(&[2, 4, 7, 6], 1), values(&[4, 4 / groups, 3, 2], 2));
        assert_near(&to_f64(&conv2d(&x, &w, None, &o).unwrap()), &by_hand(&x, &w, &o));
        let candle = x.to_dtype(DType::F32).unwrap();
        let candle =
            candle.conv2d(&w.to_dtype(DType::F32).unwrap(), padding, stride, dilation, groups).unwrap();
        assert_eq!(conv2d(&x, &w, None, &o).unwrap().dims(), candle.dims());
    }
}

#[test]
fn gradients_are_right_in_every_dtype() {
    for (stride, padding, dilation, groups) in
        [(1, 0, 1, 1), (2, 1, 1, 1), (1, 2, 2, 1), (3, 1, 1, 2), (2, 1, 2, 4)]
    {
        let o = ConvOptions { stride, padding, dilation, groups };
        // Roundings: of the correlation, of the sum with the bias, of the gradient between them.
        let run = |t: &[Tensor]| conv2d(&t[0], &t[1], Some(&t[2]), &o);
        let inputs = [values(&[2, 4, 5, 6], 1), values(&[4, 4 / groups, 2, 3], 2), values(&[4], 3)];
        check_linear("conv2d", 3., &run, &inputs);
        let run = |t: &[Tensor]| conv1d(&t[0], &t[1], Some(&t[2]), &o);
        let inputs = [values(&[2, 4, 7], 1), values(&[4, 4 / groups, 3], 2), values(&[4], 3)];
        check_linear("conv1d", 3., &run, &inputs);

        let output_padding = stride.max(dilation) - 1;
        let o = ConvTransposeOptions { stride, padding, output_padding, dilation, groups };
        let run = |t: &[Tensor]| conv_transpose2d(&t[0], &t[1], Some(&t[2]), &o);
        let inputs = [values(&[2, 4, 3, 4], 1), values(&[4, 2, 3, 2], 2), values(&[2 * groups], 3)];
        check_linear("conv_transpose2d", 3., &run, &inputs);
        let run = |t: &[Tensor]| conv_transpose1d(&t[0], &t[1], Some(&t[2]), &o);
        let inputs = [values(&[2, 4, 4], 1), values(&[4, 2, 3], 2), values(&[2 * groups], 3)];
        check_linear("conv_transpose1d", 3., &run, &inputs);
    }
}

#[test]
fn a_transposed_convolution_is_the_adjoint_of_the_convolution() {
    for (stride, padding, dilation, groups) in
        [(1, 0, 1, 1), (2, 1, 1, 1), (1, 2, 2, 1), (3, 1, 1, 2), (2, 1, 2, 4)]
    {
        let o = ConvOptions { stride, padding, dilation, groups };
        let (x, w) = (values(&[2, 4, 9], 1), values(&[4, 4 / groups, 3], 2));
        let y = conv1d(&x, &w, None, &o).unwrap();
        let g = values(y.dims(), 3);
        // What the stride leaves over at the end of x is the output padding of the way back.
        let back = |output_padding| {
            let o = ConvTransposeOptions { stride, padding, output_padding, dilation, groups };
            conv_transpose1d(&g, &w, None, &o)
        };
        let missing = 9 - back(0).unwrap().dim(2).unwrap();
        assert!((inner(&y, &g) - inner(&x, &back(missing).unwrap())).abs() < 1e-12);
    }
}

#[test]
fn a_bias_gradient_counts_to_4096_in_16_bits() {
    for dtype in [DType::F16, DType::BF16] {
        let bias = Var::zeros(2, dtype, &Device::Cpu).unwrap();
        let x = Tensor::zeros((4, 1, 32, 32), dtype, &Device::Cpu).unwrap();
        let w = Tensor::zeros((2, 1, 1, 1), dtype, &Device::Cpu).unwrap();
        let out = conv2d(&x, &w, Some(bias.as_tensor()), &Default::default()).unwrap();
        let grads = autocast::backward(out.to_dtype(DType::F32).unwrap().sum_all().unwrap()).unwrap();
        assert_eq!(to_f64(grads.get(&bias).unwrap()), [4096.; 2], "{dtype:?}");
        // And so do the products: 4096 taps of one.
        let ones = Tensor::ones((1, 64, 8, 8), dtype, &Device::Cpu).unwrap();
        assert_eq!(to_f64(&conv2d(&ones, &ones, None, &Default::default()).unwrap()), [4096.]);
    }
}

#[test]
fn bad_input_is_a_typed_error() {
    let v = |dims: &[usize]| values(dims, 1);
    let shape = |r: Result<Tensor>| {
        assert!(matches!(&r, Err(Error::InvalidArgument { got, .. }) if got.starts_with("of shape")), "{r:?}")
    };
    let argument = |r: Result<Tensor>| assert!(matches!(r, Err(Error::InvalidArgument { .. })), "{r:?}");
    let plain = ConvOptions::default();
    shape(conv1d(&v(&[2, 3]), &v(&[2, 3, 1]), None, &plain));
    shape(conv1d(&v(&[2, 3, 4]), &v(&[2, 3]), None, &plain));
    shape(conv1d(&v(&[2, 3, 4]), &v(&[2, 3, 0]), None, &plain));
    shape(conv1d(&v(&[2, 3, 4]), &v(&[2, 2, 1]), None, &plain));
    shape(conv1d(&v(&[2, 3, 4]), &v(&[2, 3, 5]), None, &plain));
    shape(conv1d(&v(&[2, 3, 4]), &v(&[2, 3, 1]), Some(&v(&[3])), &plain));
    shape(conv2d(&v(&[2, 3, 4]), &v(&[2, 3, 1, 1]), None, &plain));
    shape(conv2d(&v(&[2, 3, 4, 0]), &v(&[2, 3, 1, 1]), None, &plain));
    argument(conv1d(&v(&[2, 3, 4]), &v(&[2, 3, 1]), None, &ConvOptions { stride: 0, ..plain }));
    argument(conv1d(&v(&[2, 3, 4]), &v(&[2, 3, 1]), None, &ConvOptions { dilation: 0, ..plain }));
    argument(conv1d(&v(&[2, 3, 4]), &v(&[2, 3, 1]), None, &ConvOptions { groups: 0, ..plain }));
    argument(conv1d(&v(&[2, 6, 4]), &v(&[2, 2, 1]), None, &ConvOptions { groups: 3, ..plain }));
    let narrow = v(&[2, 3, 1]).to_dtype(DType::F32).unwrap();
    assert!(
        matches!(&conv1d(&v(&[2, 3, 4]), &narrow, None, &plain), Err(Error::InvalidArgument { expected, .. }) if expected.ends_with("; cast one of them"))
    );

    let plain = ConvTransposeOptions::default();
    shape(conv_transpose1d(&v(&[2, 3, 4]), &v(&[2, 3, 1]), None, &plain));
    shape(conv_transpose1d(
        &v(&[2, 3, 1]),
        &v(&[3, 2, 2]),
        None,
        &ConvTransposeOptions { padding: 1, ..plain },
    ));
    shape(conv_transpose2d(&v(&[2, 3, 4]), &v(&[3, 2, 1]), None, &plain));
    argument(conv_transpose1d(
        &v(&[2, 3, 4]),
        &v(&[3, 2, 1]),
        None,
        &ConvTransposeOptions { output_padding: 1, ..plain },
    ));
    argument(conv_transpose1d(
        &v(&[2, 3, 4]),
        &v(&[3, 2, 1]),
        None,
        &ConvTransposeOptions { groups: 2, ..plain },
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_shape_has_right_gradients(
        batch in 0usize..3, per_group in 1usize..3, length in 1usize..6, taps in 1usize..4,
        stride in 1usize..4, padding in 0usize..3, dilation in 1usize..3, groups in 1usize..3, turned: bool,
    ) {
        let turn = |t: &Tensor| if turned { t.transpose(1, 2)?.contiguous()?.transpose(1, 2) } else { Ok(t.clone()) };
        let channels = per_group * groups;
        let (x, w) = (values(&[batch, channels, length], 1), values(&[channels, per_group, taps], 2));
        let b = values(&[channels], 3);
        if length + 2 * padding > dilation * (taps - 1) {
            let o = ConvOptions { stride, padding, dilation, groups };
            let run = |t: &[Tensor]| ops::conv1d(&turn(&t[0])?, &turn(&t[1])?, Some(&t[2]), &o);
            check_gradients("conv1d", &run, &[x.clone(), w.clone(), b.clone()]);
        }
        if (length - 1) * stride + dilation * (taps - 1) + 1 > 2 * padding {
            let o = ConvTransposeOptions { stride, padding, output_padding: 0, dilation, groups };
            let run = |t: &[Tensor]| ops::conv_transpose1d(&turn(&t[0])?, &turn(&t[1])?, Some(&t[2]), &o);
            check_gradients("conv_transpose1d", &run, &[x, w, b]);
        }
    }
}
