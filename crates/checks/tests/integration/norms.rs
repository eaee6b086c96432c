//! Norms and softmax: gradients, agreement of the dtypes, layers, and checkpoints by candle-nn's names.

use std::collections::HashMap;

use autocast::{nn, ops};
use candle_core::{DType, Device, Module, ModuleT, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use checks::catalogue::samples::numbers;
use checks::catalogue::{Samples, cases_norms, check::check_all};
use proptest::prelude::*;

#[test]
fn gradients_and_dtypes_agree() {
    check_all(cases_norms::CASES, &Device::Cpu);
}

#[test]
fn values_follow_their_formulas() {
    let x = Tensor::new(&[[[1.0f64, 3.0], [5.0, 7.0]]], &Device::Cpu).unwrap();
    let double = Tensor::new(&[2.0f64, 2.0], &Device::Cpu).unwrap();
    let one = Tensor::new(&[1.0f64, 1.0], &Device::Cpu).unwrap();
    let far = 3. / 5f64.sqrt();
    for (name, y, want) in [
        ("layer_norm", ops::layer_norm(&x, &[2], Some(&double), Some(&one), 0.), [-1., 3., -1., 3.]),
        ("rms_norm", ops::rms_norm(&x, &[2], None, 4.), [1. / 3., 1., 5. / 41f64.sqrt(), 7. / 41f64.sqrt()]),
        ("group_norm of one", ops::group_norm(&x, 1, None, None, 0.), [-far, -far / 3., far / 3., far]),
        ("group_norm of two", ops::group_norm(&x, 2, Some(&double), None, 0.), [-2., 2., -2., 2.]),
        ("batch_norm", ops::batch_norm_train(&x, None, Some(&one), 0.).map(|b| b.output), [0., 2., 0., 2.]),
        ("eval", ops::batch_norm_eval(&x, &one, &double, Some(&double), None, 2.), [0., 2., 4., 6.]),
    ] {
        let got = numbers(&y.unwrap());
        assert!(std::iter::zip(&got, want).all(|(g, w)| (g - w).abs() < 1e-14), "{name}: {got:?}");
    }
}

/// What candle's own layer loses: it cuts the graph on a contiguous input.
#[test]
fn a_layer_norm_gives_gradients_to_its_input_and_its_parameters() {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    let layers: [(&str, Box<dyn Module>); 3] = [
        ("ln", Box::new(nn::layer_norm(4, 1e-5, vb.pp("ln")).unwrap())),
        ("rms", Box::new(nn::rms_norm(4, 1e-5, vb.pp("rms")).unwrap())),
        ("gn", Box::new(nn::group_norm(2, 4, 1e-5, vb.pp("gn")).unwrap())),
    ];
    let x = Samples::new(0, &Device::Cpu).uniform(&[2, 4, 4], -2., 2.).to_dtype(DType::F32).unwrap();
    let x = Var::from_tensor(&x).unwrap();
    for (name, layer) in &layers {
        let loss = layer.forward(&x).unwrap().sqr().unwrap().sum_all().unwrap();
        let grads = autocast::backward(loss).unwrap();
        assert!(grads.get(&x).is_some(), "{name}");
        for (key, var) in vars.data().lock().unwrap().iter().filter(|(key, _)| key.starts_with(name)) {
            assert!(numbers(grads.get(var).unwrap()).iter().any(|&g| g != 0.), "{key}");
        }
    }
    let mut names: Vec<_> = vars.data().lock().unwrap().keys().cloned().collect();
    names.sort();
    assert_eq!(names, ["gn.bias", "gn.weight", "ln.bias", "ln.weight", "rms.weight"]);
}

#[test]
fn old_names_of_a_checkpoint_are_read() {
    let two = Tensor::full(2f32, 3, &Device::Cpu).unwrap();
    let tensors = HashMap::from([("gamma".to_string(), two.clone()), ("beta".to_string(), two)]);
    let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let layer = nn::layer_norm(3, nn::LayerNormConfig::default(), vb).unwrap();
    assert_eq!(numbers(layer.weight()), [2.; 3]);
    assert_eq!(numbers(layer.bias().unwrap()), [2.; 3]);
}

#[test]
fn batch_norm_keeps_f32_statistics_of_what_it_saw() {
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let vars = VarMap::new();
        let vb = VarBuilder::from_varmap(&vars, dtype, &Device::Cpu);
        let layer = nn::batch_norm(2, 1e-5, vb).unwrap();
        // Channels of mean 2 and 0, and of unbiased variance 4·4/3 and 0.
        let x = Tensor::new(&[[[0f32, 4.], [0., 0.]], [[4., 0.], [0., 0.]]], &Device::Cpu).unwrap();
        let y = layer.forward_t(&x.to_dtype(dtype).unwrap(), true).unwrap();
        assert_eq!(y.dtype(), dtype);
        assert_eq!(layer.running_mean().dtype(), DType::F32);
        let close = |got: &Tensor, want: [f64; 2]| {
            let got = numbers(got);
            assert!(std::iter::zip(&got, want).all(|(g, w)| (g - w).abs() < 1e-6), "{got:?}");
        };
        close(layer.running_mean(), [0.2, 0.]);
        close(layer.running_var(), [0.9 + 0.1 * 16. / 3., 0.9]);
        // They are the buffers of the checkpoint, not copies.
        let saved = vars.data().lock().unwrap()["running_mean"].as_tensor().clone();
        close(&saved, [0.2, 0.]);
        let eval = layer.forward_t(&x.to_dtype(dtype).unwrap(), false).unwrap();
        let want = -0.2 / (0.9f64 + 0.1 * 16. / 3. + 1e-5).sqrt();
        assert!((numbers(&eval)[0] - want).abs() < 0.002, "{eval}");
        close(layer.running_mean(), [0.2, 0.]);
    }
}

#[test]
fn bad_input_is_an_error_that_names_the_op() {
    let of = |dims: &[usize]| Tensor::ones(dims, DType::F32, &Device::Cpu).unwrap();
    let half = of(&[3]).to_dtype(DType::F16).unwrap();
    let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
    let batch_norm = nn::batch_norm(3, 1e-5, vb.clone()).unwrap();
    for (part, message) in [
        ("layer_norm", ops::layer_norm(&of(&[2, 4]), &[3], None, None, 1e-5).map(drop)),
        ("layer_norm", ops::layer_norm(&of(&[2, 3]), &[3], Some(&of(&[2])), None, 1e-5).map(drop)),
        ("f16", ops::layer_norm(&of(&[2, 3]), &[3], Some(&half), None, 1e-5).map(drop)),
        ("rms_norm", ops::rms_norm(&of(&[]), &[3], None, 1e-5).map(drop)),
        ("group_norm", ops::group_norm(&of(&[3]), 1, None, None, 1e-5).map(drop)),
        ("groups is 0", ops::group_norm(&of(&[2, 3]), 0, None, None, 1e-5).map(drop)),
        ("groups is 2", ops::group_norm(&of(&[2, 3]), 2, None, None, 1e-5).map(drop)),
        ("num_groups", nn::group_norm(2, 3, 1e-5, vb).map(drop).map_err(Into::into)),
        ("batch_norm", ops::batch_norm_train(&of(&[1, 3]), None, None, 1e-5).map(drop)),
        ("batch_norm", batch_norm.forward_train(&of(&[4, 2])).map(drop).map_err(Into::into)),
        ("batch_norm", batch_norm.forward_eval(&of(&[4, 2])).map(drop).map_err(Into::into)),
    ]
    .map(|(part, result)| (part, result.unwrap_err().to_string()))
    {
        assert!(message.contains(part), "{message}");
    }
    assert!(ops::softmax(&of(&[2]), 1).is_err());
}

#[test]
fn softmax_of_infinities_is_pytorchs() {
    let inf = f32::INFINITY;
    let x = Tensor::new(&[[-inf, 0., 0.], [-inf, -inf, -inf]], &Device::Cpu).unwrap();
    let y = numbers(&ops::softmax(&x, 1).unwrap());
    assert_eq!(y[..3], [0., 0.5, 0.5]);
    assert!(y[3..].iter().all(|v| v.is_nan()));
    assert_eq!(numbers(&ops::logsumexp(&x, 1).unwrap())[1], f64::NEG_INFINITY);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    /// Any shape and layout, empty rows and single elements among them: rows of softmax sum to 1, rows of layer_norm to
    /// 0, and inputs get gradients of their shape.
    #[test]
    fn rows_are_normalised(
        dims in prop::collection::vec(0usize..5, 1..4),
        dim in 0usize..3,
        transposed: bool,
        sixteen: bool,
        seed: u64,
    ) {
        let dtype = if sixteen { DType::F16 } else { DType::F32 };
        let x = Samples::new(seed, &Device::Cpu).uniform(&dims, -4., 4.).to_dtype(dtype).unwrap();
        let var = Var::from_tensor(&x).unwrap();
        let x = match transposed {
            true => var.transpose(0, dims.len() - 1).unwrap(),
            false => var.as_tensor().clone(),
        };
        let (dim, last) = (dim % dims.len(), *x.dims().last().unwrap());
        let softmax = ops::softmax(&x, dim).unwrap();
        let norm = ops::layer_norm(&x, &[last], None, None, 1e-5).unwrap();
        for y in [&softmax, &norm] {
            prop_assert_eq!(y.dims(), x.dims());
            prop_assert_eq!(y.dtype(), dtype);
            let grads = autocast::backward(y.to_dtype(DType::F32).unwrap().sum_all().unwrap()).unwrap();
            prop_assert_eq!(grads.get(&var).unwrap().dims(), var.dims());
        }
        if x.elem_count() > 0 {
            // Up to four roundings to 11 bits of numbers below 1, or below 2.
            let bound = 4. * f64::powi(2., -10);
            let sums = numbers(&softmax.to_dtype(DType::F64).unwrap().sum(dim).unwrap());
            prop_assert!(sums.iter().all(|s| (s - 1.).abs() <= bound), "{:?}", sums);
            let sums = numbers(&norm.to_dtype(DType::F64).unwrap().sum(x.rank() - 1).unwrap());
            prop_assert!(sums.iter().all(|s| s.abs() <= bound), "{:?}", sums);
        }
    }
}
