//! Sizes of 0, and sizes near the end of what a size can be: a value or an error of ours, at once, and never a panic.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use autocast::nn::{self, RNN};
use autocast::ops::{self, ConvOptions, ConvTransposeOptions, InterpolateMode, PoolOptions};
use autocast::{Error, backward};
use candle_core::{DType, Device, Module, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};

const CPU: Device = Device::Cpu;

fn ones(dims: &[usize]) -> Tensor {
    Tensor::ones(dims, DType::F32, &CPU).unwrap()
}

#[test]
fn every_op_takes_tensors_without_elements_or_says_why_not() {
    let wrong = checks::catalogue::zero_sizes::zero_sizes(&CPU);
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_nothing_adds_up_to() {
    let number = |t: Tensor| t.to_vec1::<f32>().unwrap();
    assert_eq!(number(ops::sum(&ones(&[0, 2]), 0).unwrap()), [0., 0.]);
    assert!(number(ops::mean(&ones(&[0, 2]), 0).unwrap()).iter().all(|mean| mean.is_nan()));
    assert_eq!(number(ops::prod(&ones(&[0, 2]), 0).unwrap()), [1., 1.]);
    assert_eq!(number(ops::norm(&ones(&[0, 2]), 0).unwrap()), [0., 0.]);
    // A product over nothing is 0, and a bias stays.
    let bias = Tensor::new(&[3f32, 4.], &CPU).unwrap();
    let y = ops::linear(&ones(&[1, 0]), &ones(&[2, 0]), Some(&bias)).unwrap();
    assert_eq!(y.to_vec2::<f32>().unwrap(), [[3., 4.]]);
    assert_eq!(ops::mm(&ones(&[1, 0]), &ones(&[0, 2])).unwrap().to_vec2::<f32>().unwrap(), [[0., 0.]]);
}

#[test]
fn a_bias_has_its_gradient_beside_a_product_over_nothing() {
    let bias = Var::new(&[3f32, 4.], &CPU).unwrap();
    let y = ops::linear(&ones(&[5, 0]), &ones(&[2, 0]), Some(&bias)).unwrap();
    let grads = backward(ops::sum_all(&y).unwrap()).unwrap();
    assert_eq!(grads.get(&bias).unwrap().to_vec1::<f32>().unwrap(), [5., 5.]);
}

/// Every option that multiplies or adds sizes, at sizes where that overflows.
#[test]
fn huge_options_are_errors() {
    for huge in [usize::MAX, usize::MAX / 2 + 1, 1 << 62, 1 << 45] {
        let conv =
            |options: ConvOptions| ops::conv2d(&ones(&[1, 1, 5, 5]), &ones(&[1, 1, 3, 3]), None, &options);
        let transposed = |options: ConvTransposeOptions| {
            ops::conv_transpose2d(&ones(&[1, 1, 5, 5]), &ones(&[1, 1, 3, 3]), None, &options)
        };
        let pool = |options: PoolOptions<1>| ops::max_pool1d(&ones(&[1, 1, 5]), &options);
        let average = |options: PoolOptions<1>| ops::avg_pool1d(&ones(&[1, 1, 5]), &options);
        let plain = PoolOptions::new([2]);
        let results = [
            ("dilation", conv(ConvOptions { dilation: huge, ..Default::default() })),
            ("padding", conv(ConvOptions { padding: huge, ..Default::default() })),
            ("groups", conv(ConvOptions { groups: huge, ..Default::default() })),
            ("transposed stride", transposed(ConvTransposeOptions { stride: huge, ..Default::default() })),
            (
                "transposed dilation",
                transposed(ConvTransposeOptions { dilation: huge, ..Default::default() }),
            ),
            (
                "output padding",
                transposed(ConvTransposeOptions { output_padding: huge, ..Default::default() }),
            ),
            ("transposed padding", transposed(ConvTransposeOptions { padding: huge, ..Default::default() })),
            ("kernel", pool(PoolOptions { kernel: [huge], ..plain })),
            ("pool padding", pool(PoolOptions { kernel: [huge], padding: [huge / 2], ..plain })),
            ("average kernel", average(PoolOptions { kernel: [huge], padding: [huge / 2], ..plain })),
            ("size", ops::interpolate(&ones(&[1, 1, 5]), &[huge], InterpolateMode::Nearest)),
            ("two sizes", ops::adaptive_avg_pool2d(&ones(&[1, 1, 5, 5]), [huge, 2])),
            ("groups of a norm", ops::group_norm(&ones(&[1, 4]), huge, None, None, 1e-5)),
            ("groups of no channels", ops::group_norm(&ones(&[1, 0]), huge, None, None, 1e-5)),
        ];
        for (what, result) in results {
            match result {
                Err(Error::Candle(error)) => panic!("{what} of {huge}: candle's error {error}"),
                Err(_) => {}
                Ok(value) => panic!("{what} of {huge}: a value of shape {:?}", value.dims()),
            }
        }
        // A stride past the end leaves one position.
        let one = conv(ConvOptions { stride: huge, ..Default::default() }).unwrap();
        assert_eq!(one.dims(), [1, 1, 1, 1]);
        assert_eq!(pool(PoolOptions { stride: [huge], ..plain }).unwrap().dims(), [1, 1, 1]);
    }
}

#[test]
fn recurrent_layers_on_an_empty_batch_or_no_steps() {
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F32, &CPU);
    let gru = nn::gru(3, 4, Default::default(), vb.pp("gru")).unwrap();
    let lstm = nn::lstm(3, 4, Default::default(), vb.pp("lstm")).unwrap();
    for dims in [[0, 1, 3], [0, 5, 3]] {
        let states = gru.seq(&ones(&dims)).unwrap();
        let last = gru.states_to_tensor(&states).unwrap();
        assert_eq!(last.dims(), [0, dims[1], 4]);
        assert_eq!(ops::sum_all(&last).unwrap().to_scalar::<f32>().unwrap(), 0.);
        let states = lstm.seq(&ones(&dims)).unwrap();
        assert_eq!(lstm.states_to_tensor(&states).unwrap().dims(), [0, dims[1], 4]);
    }
    let said = |error: candle_core::Error| error.to_string();
    for error in [
        gru.seq(&ones(&[2, 0, 3]))
            .and_then(|states| gru.states_to_tensor(&states))
            .map_err(said)
            .unwrap_err(),
        lstm.seq(&ones(&[2, 0, 3]))
            .and_then(|states| lstm.states_to_tensor(&states))
            .map_err(said)
            .unwrap_err(),
    ] {
        assert!(error.contains("step"), "{error}");
    }
    let attention = nn::multi_head_attention(4, 2, Default::default(), vb.pp("mha")).unwrap();
    assert_eq!(attention.forward(&ones(&[0, 3, 4])).unwrap().dims(), [0, 3, 4]);
}

#[test]
fn integers_wrap_around() {
    let of = |v: u8| Tensor::new(&[v], &CPU).unwrap();
    let byte = |t: autocast::Result<Tensor>| t.unwrap().to_vec1::<u8>().unwrap()[0];
    assert_eq!(byte(ops::sub(&of(1), &of(2))), 255);
    assert_eq!(byte(ops::add(&of(200), &of(100))), 44);
    assert_eq!(byte(ops::mul(&of(16), &of(17))), 16);
    let of = |v: i64| Tensor::new(&[[v, v]], &CPU).unwrap();
    let long = |t: autocast::Result<Tensor>| t.unwrap().to_vec2::<i64>().unwrap()[0][1];
    assert_eq!(long(ops::add(&of(i64::MAX), &of(1))), i64::MIN);
    assert_eq!(long(ops::mul(&of(i64::MIN), &of(-1))), i64::MIN);
    assert_eq!(long(ops::sub(&of(i64::MIN), &Tensor::new(1i64, &CPU).unwrap())), i64::MAX);
    let words = |v: u32| Tensor::new(&[v], &CPU).unwrap();
    assert_eq!(ops::sub(&words(0), &words(1)).unwrap().to_vec1::<u32>().unwrap(), [u32::MAX]);
    // Quotients are f32, also over 0.
    let quotient = ops::div(&of(1), &of(0)).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(quotient, [[f32::INFINITY; 2]]);
}
