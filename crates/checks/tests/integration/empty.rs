//! Sizes of 0, and options near the largest integers: right values, or errors that name the op and the argument.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use autocast::ops::{AttentionMask, AttentionOptions};
use autocast::{Result, backward, nn, ops};
use candle_core::{DType, Device, Module, Tensor, Var};
use candle_nn::{RNN, VarBuilder, VarMap};
use checks::catalogue::functions::to_f64;

const CPU: Device = Device::Cpu;

fn empty(dims: &[usize]) -> Tensor {
    Var::zeros(dims, DType::F32, &CPU).unwrap().into_inner()
}

#[test]
fn sums_of_nothing_are_0_and_means_nan() {
    let x = empty(&[0, 2]);
    let values = |t: Result<Tensor>| to_f64(&t.unwrap());
    assert_eq!(values(ops::sum(&x, 0)), [0.; 2]);
    assert_eq!(values(ops::sum_all(&x)), [0.]);
    assert_eq!(values(ops::norm(&x, 0)), [0.; 2]);
    assert_eq!(values(ops::prod(&x, 0)), [1.; 2]);
    assert_eq!(values(ops::logsumexp(&x, 0)), [f64::NEG_INFINITY; 2]);
    for none in [ops::mean(&x, 0), ops::mean_all(&x), ops::var(&x, 0, 0), ops::std(&x, 0, 1)] {
        assert!(values(none).iter().all(|v| v.is_nan()));
    }
    for reduction in [ops::Reduction::Mean, ops::Reduction::BatchMean] {
        assert!(values(ops::mse_loss(&x, &x, reduction))[0].is_nan());
    }
    assert_eq!(values(ops::mse_loss(&x, &x, ops::Reduction::Sum)), [0.]);
    assert_eq!(ops::mse_loss(&x, &x, ops::Reduction::None).unwrap().dims(), [0, 2]);
}

#[test]
fn products_over_nothing_are_zeros_or_the_bias() {
    let bias = Var::new(&[3f32, 5.], &CPU).unwrap();
    let (x, w) = (empty(&[2, 0]), empty(&[2, 0]));
    let y = ops::linear(&x, &w, Some(bias.as_tensor())).unwrap();
    assert_eq!(to_f64(&y), [3., 5., 3., 5.]);
    let grads = backward(ops::sum_all(&y).unwrap()).unwrap();
    assert_eq!(to_f64(grads.get(&bias).unwrap()), [2., 2.]);
    assert_eq!(to_f64(&ops::matmul(&x, &w.t().unwrap()).unwrap()), [0.; 4]);
    assert_eq!(to_f64(&ops::einsum("ij,kj->ik", &[&x, &w]).unwrap()), [0.; 4]);
    let sum = ops::addmm(&bias, &x, &w.t().unwrap(), 2., 1.).unwrap();
    assert_eq!(to_f64(&sum), [6., 10., 6., 10.]);
    // No channels: the convolution adds up nothing.
    let image = ops::conv1d(&empty(&[1, 0, 2]), &empty(&[2, 0, 1]), Some(&bias), &Default::default());
    assert_eq!(to_f64(&image.unwrap()), [3., 3., 5., 5.]);
}

/// A layer's output for an empty batch, and the gradients of its parameters, which are zeros.
fn of_no_batch(name: &str, dims: &[usize], forward: impl FnOnce(&Tensor, VarBuilder) -> Tensor) {
    let map = VarMap::new();
    let x = empty(dims);
    let y = forward(&x, VarBuilder::from_varmap(&map, DType::F32, &CPU));
    assert_eq!((y.dims()[0], y.elem_count()), (0, 0), "{name}");
    assert_eq!(to_f64(&y.sum_all().unwrap()), [0.], "{name}");
    let grads = backward(ops::sum_all(&y).unwrap()).unwrap();
    assert_eq!(grads.get(&x).expect(name).dims(), x.dims());
    for (parameter, var) in map.data().lock().unwrap().iter() {
        let grad = grads.get(var).unwrap_or_else(|| panic!("{name}: no gradient of {parameter}"));
        assert!(to_f64(grad).iter().all(|&g| g == 0.), "{name}: {parameter}");
    }
}

#[test]
fn layers_take_empty_batches() {
    for steps in [1, 3] {
        of_no_batch("gru", &[0, steps, 4], |x, vb| {
            let layer = nn::gru(4, 5, Default::default(), vb).unwrap();
            layer.states_to_tensor(&layer.seq(x).unwrap()).unwrap()
        });
        of_no_batch("lstm", &[0, steps, 4], |x, vb| {
            let layer = nn::lstm(4, 5, Default::default(), vb).unwrap();
            layer.states_to_tensor(&layer.seq(x).unwrap()).unwrap()
        });
        of_no_batch("attention", &[0, steps, 4], |x, vb| {
            nn::multi_head_attention(4, 2, Default::default(), vb).unwrap().forward(x).unwrap()
        });
    }
    of_no_batch("layer_norm", &[0, 4], |x, vb| nn::layer_norm(4, 1e-5, vb).unwrap().forward(x).unwrap());
    of_no_batch("rms_norm", &[0, 4], |x, vb| nn::rms_norm(4, 1e-5, vb).unwrap().forward(x).unwrap());
    of_no_batch("group_norm", &[0, 4], |x, vb| nn::group_norm(2, 4, 1e-5, vb).unwrap().forward(x).unwrap());
    of_no_batch("linear", &[0, 4], |x, vb| nn::linear(4, 2, vb).unwrap().forward(x).unwrap());
    of_no_batch("conv1d", &[0, 4, 3], |x, vb| {
        nn::conv1d(4, 2, 2, Default::default(), vb).unwrap().forward(x).unwrap()
    });
    of_no_batch("conv_transpose2d", &[0, 4, 3, 3], |x, vb| {
        nn::conv_transpose2d(4, 2, 2, Default::default(), vb).unwrap().forward(x).unwrap()
    });
}

#[test]
fn layers_say_what_no_steps_and_no_statistics_are() {
    let vb = VarBuilder::zeros(DType::F32, &CPU);
    let x = Tensor::zeros((2, 0, 4), DType::F32, &CPU).unwrap();
    let lstm = nn::lstm(4, 5, Default::default(), vb.clone()).unwrap();
    let gru = nn::gru(4, 5, Default::default(), vb.clone()).unwrap();
    let (lstm_states, gru_states) = (lstm.seq(&x).unwrap(), gru.seq(&x).unwrap());
    assert!(lstm_states.is_empty() && gru_states.is_empty());
    for (op, error) in [
        ("lstm", lstm.states_to_tensor(&lstm_states).unwrap_err()),
        ("gru", gru.states_to_tensor(&gru_states).unwrap_err()),
        ("batch_norm", nn::batch_norm(4, 1e-5, vb).unwrap().forward_train(&empty(&[0, 4])).unwrap_err()),
    ] {
        assert!(error.to_string().starts_with(op), "{error}");
    }
    let table = empty(&[3, 4]);
    let none = Tensor::zeros((0, 2), DType::U32, &CPU).unwrap();
    assert_eq!(nn::Embedding::new(table, 4).forward(&none).unwrap().dims(), [0, 2, 4]);
}

const HUGE: [usize; 5] = [1 << 40, 1 << 62, 1 << 63, usize::MAX - 1, usize::MAX];

/// A result or an error that names its op, not candle's and not the end of the process.
fn refused_or_right<T>(what: &str, result: Result<T>) {
    if let Err(error) = result {
        let ours = !matches!(error, autocast::Error::Candle(_));
        assert!(ours, "{what}: {error}");
    }
}

#[test]
fn huge_options_of_convolutions_are_refused() {
    let (x, w) = (empty(&[1, 2, 5]), empty(&[2, 2, 3]));
    let (image, kernel) = (x.unsqueeze(2).unwrap(), w.unsqueeze(2).unwrap());
    for huge in HUGE {
        for at in 0..4 {
            let pick = |i: usize, usual: usize| if i == at { huge } else { usual };
            let o = ops::ConvOptions {
                padding: pick(0, 0),
                stride: pick(1, 1),
                dilation: pick(2, 1),
                groups: pick(3, 1),
            };
            let one = ops::conv1d(&x, &w, None, &o);
            assert_eq!(one.is_ok(), at == 1, "{o:?}");
            refused_or_right(&format!("{o:?}"), one.and_then(|y| backward(ops::sum_all(&y)?)));
            refused_or_right(&format!("{o:?}"), ops::conv2d(&image, &kernel, None, &o));
            for added in [0, huge, huge - 1] {
                let t = ops::ConvTransposeOptions {
                    padding: o.padding,
                    output_padding: added,
                    stride: o.stride,
                    dilation: o.dilation,
                    groups: o.groups,
                };
                let one = ops::conv_transpose1d(&x, &w, None, &t);
                assert!(one.is_err(), "{t:?}");
                refused_or_right(&format!("{t:?}"), one);
                refused_or_right(&format!("{t:?}"), ops::conv_transpose2d(&image, &kernel, None, &t));
            }
        }
        let none = ops::ConvOptions { groups: huge, ..Default::default() };
        assert!(ops::conv1d(&empty(&[1, 0, 5]), &empty(&[0, 0, 3]), None, &none).is_err());
    }
}

#[test]
fn huge_options_of_pools_norms_and_sizes_are_refused() {
    let x = empty(&[1, 2, 5]);
    for huge in HUGE {
        for (kernel, stride, padding) in
            [(huge, 1, 0), (1, huge, 0), (huge, huge, huge), (huge, 1, huge / 2), (2, huge, 1)]
        {
            let o = ops::PoolOptions { kernel: [kernel], stride: [stride], padding: [padding] };
            refused_or_right(&format!("{o:?}"), ops::avg_pool1d(&x, &o));
            refused_or_right(&format!("{o:?}"), ops::max_pool1d(&x, &o));
        }
        let image = x.unsqueeze(2).unwrap();
        for error in [
            ops::group_norm(&x, huge, None, None, 1e-5),
            ops::group_norm(&empty(&[2, 0]), huge, None, None, 1e-5),
            ops::interpolate(&x, &[huge], ops::InterpolateMode::Nearest),
            ops::interpolate(&image, &[huge, 2], ops::InterpolateMode::Linear { align_corners: true }),
            ops::adaptive_avg_pool2d(&image, [2, huge]),
            ops::embedding_with_padding(&Tensor::new(&[0u32], &CPU).unwrap(), &empty(&[2, 2]), huge),
        ] {
            refused_or_right("an option", error.map(|y| panic!("{huge}: {:?}", y.dims()) as ()));
        }
    }
}

#[test]
fn results_that_do_not_fit_are_refused() {
    let long = Tensor::ones(1, DType::F32, &CPU).unwrap().broadcast_as(1 << 22).unwrap();
    let (row, column) = (long.unsqueeze(0).unwrap(), long.unsqueeze(1).unwrap());
    let wide = Tensor::ones((1, 1), DType::F32, &CPU).unwrap().broadcast_as((1 << 40, 1)).unwrap();
    let mask = AttentionMask::Additive(Var::ones((1, 1), DType::F32, &CPU).unwrap().into_inner());
    let masked = AttentionOptions { mask, ..Default::default() };
    for (name, result) in [
        ("outer", ops::outer(&long, &long)),
        ("matmul", ops::matmul(&column, &row)),
        ("einsum", ops::einsum("i,j->ij", &[&long, &long])),
        ("linear", ops::linear(&column, &column, None)),
        ("add", ops::add(&row, &column)),
        ("pow", ops::pow(&row, &column)),
        ("where", ops::where_cond(&Tensor::ones((), DType::U8, &CPU).unwrap(), &row, &column)),
        ("cat", ops::cat(&[&wide, &wide], 0)),
        ("stack", ops::stack(&[&wide, &wide], 0)),
        ("dropout", ops::dropout(&wide, 0.5, 1)),
        // Without a mask that is trained a kernel takes it, which has no tensor of queries times keys.
        ("attention", ops::scaled_dot_product_attention(&column, &column, &column, &masked)),
    ] {
        assert!(matches!(result, Err(autocast::Error::InvalidArgument { .. })), "{name}: {result:?}");
    }
}

#[test]
fn layers_of_huge_sizes_are_refused() {
    let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &CPU);
    for huge in HUGE {
        let vb = || vb.clone();
        let errors = [
            nn::linear(huge, 3, vb()).err(),
            nn::linear_no_bias(3, huge, vb()).err(),
            nn::embedding(huge, huge, vb()).err(),
            nn::multi_head_attention(huge, 1, Default::default(), vb()).err(),
            nn::gru(2, huge, Default::default(), vb()).err(),
            nn::lstm(huge, 2, Default::default(), vb()).err(),
            nn::conv1d(2, 2, huge, Default::default(), vb()).err(),
            nn::conv2d(2, huge, 2, Default::default(), vb()).err(),
            nn::conv_transpose1d(huge, 2, 2, Default::default(), vb()).err(),
            nn::conv_transpose2d(2, 2, huge, Default::default(), vb()).err(),
        ];
        for (at, error) in errors.into_iter().enumerate() {
            let said = error.unwrap().to_string();
            assert!(said.contains("; expected "), "{at}: {said}");
        }
    }
}
