//! Layers: candle-nn's checkpoints load and give candle-nn's results, recurrent layers and multi-head attention have
//! right values and gradients.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use autocast::Result;
use autocast::nn::{self, MultiHeadAttentionConfig, RNN};
use autocast::ops::{self, AttentionMask, AttentionOptions};
use candle_core::{DType, Device, Module, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use checks::catalogue::functions::{check_close, check_gradients, to_f64, values};

/// Builds candle-nn's layer on fresh parameters, saves them, loads them into ours, and gives both builders' results.
fn both<A, B>(
    theirs: impl Fn(VarBuilder) -> candle_core::Result<A>,
    ours: impl Fn(VarBuilder) -> candle_core::Result<B>,
) -> (A, B) {
    let saved = VarMap::new();
    let layer = theirs(VarBuilder::from_varmap(&saved, DType::F32, &Device::Cpu)).unwrap();
    let tensors =
        saved.data().lock().unwrap().iter().map(|(k, v)| (k.clone(), v.as_tensor().clone())).collect();
    let mut loaded = VarMap::new();
    let fresh = ours(VarBuilder::from_varmap(&loaded, DType::F32, &Device::Cpu)).unwrap();
    drop(fresh);
    let names = |map: &VarMap| {
        let mut names = map
            .data()
            .lock()
            .unwrap()
            .iter()
            .map(|(name, var)| (name.clone(), var.dims().to_vec()))
            .collect::<Vec<_>>();
        names.sort();
        names
    };
    assert_eq!(names(&loaded), names(&saved), "parameters made by the two constructors");
    let file = std::env::temp_dir().join(format!(
        "autocast-layers-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    candle_core::safetensors::save::<String, _>(&tensors, &file).unwrap();
    loaded.load(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let ours = ours(VarBuilder::from_varmap(&loaded, DType::F32, &Device::Cpu)).unwrap();
    (layer, ours)
}

fn assert_same(theirs: &Tensor, ours: &Tensor) {
    assert_eq!(theirs.dims(), ours.dims());
    for (theirs, ours) in to_f64(theirs).iter().zip(to_f64(ours)) {
        assert!((theirs - ours).abs() <= 1e-5 * (1. + theirs.abs()), "candle-nn {theirs}, ours {ours}");
    }
}

fn f32s(dims: &[usize]) -> Tensor {
    values(dims, 11).to_dtype(DType::F32).unwrap()
}

#[test]
fn candle_nn_checkpoints_give_the_same_results() {
    let x = f32s(&[2, 3, 4]);
    let (a, b) = both(|vb| candle_nn::linear(4, 5, vb), |vb| nn::linear(4, 5, vb));
    assert_same(&a.forward(&x).unwrap(), &b.forward(&x).unwrap());
    let (a, b) = both(|vb| candle_nn::linear_no_bias(4, 5, vb), |vb| nn::linear_no_bias(4, 5, vb));
    assert_same(&a.forward(&x).unwrap(), &b.forward(&x).unwrap());
    let (a, b) = both(|vb| candle_nn::embedding(7, 5, vb), |vb| nn::embedding(7, 5, vb));
    let ids = Tensor::new(&[[0u32, 6, 3], [1, 1, 1]], &Device::Cpu).unwrap();
    assert_same(&a.forward(&ids).unwrap(), &b.forward(&ids).unwrap());

    let x = f32s(&[2, 4, 7]);
    let config = nn::Conv1dConfig { padding: 1, stride: 2, dilation: 2, groups: 2, ..Default::default() };
    let (a, b) = both(|vb| candle_nn::conv1d(4, 6, 3, config, vb), |vb| nn::conv1d(4, 6, 3, config, vb));
    assert_same(&a.forward(&x).unwrap(), &b.forward(&x).unwrap());
    let (a, b) = both(
        |vb| candle_nn::conv1d_no_bias(4, 6, 3, config, vb),
        |vb| nn::conv1d_no_bias(4, 6, 3, config, vb),
    );
    assert_same(&a.forward(&x).unwrap(), &b.forward(&x).unwrap());
    let config = nn::ConvTranspose1dConfig { padding: 1, output_padding: 1, stride: 2, ..Default::default() };
    let (a, b) = both(
        |vb| candle_nn::conv_transpose1d(4, 6, 3, config, vb),
        |vb| nn::conv_transpose1d(4, 6, 3, config, vb),
    );
    assert_same(&a.forward(&x).unwrap(), &b.forward(&x).unwrap());

    let x = f32s(&[2, 4, 7, 6]);
    let config = nn::Conv2dConfig { padding: 1, stride: 2, groups: 2, ..Default::default() };
    let (a, b) = both(|vb| candle_nn::conv2d(4, 6, 3, config, vb), |vb| nn::conv2d(4, 6, 3, config, vb));
    assert_same(&a.forward(&x).unwrap(), &b.forward(&x).unwrap());
    let config = nn::ConvTranspose2dConfig { padding: 1, output_padding: 1, stride: 2, ..Default::default() };
    let (a, b) = both(
        |vb| candle_nn::conv_transpose2d(4, 6, 3, config, vb),
        |vb| nn::conv_transpose2d(4, 6, 3, config, vb),
    );
    assert_same(&a.forward(&x).unwrap(), &b.forward(&x).unwrap());
}

#[test]
fn candle_nn_recurrent_checkpoints_give_the_same_results() {
    let x = f32s(&[2, 5, 4]);
    for config in [
        nn::LSTMConfig::default(),
        nn::LSTMConfig {
            direction: nn::Direction::Backward,
            layer_idx: 1,
            ..nn::LSTMConfig::default_no_bias()
        },
    ] {
        let (a, b) = both(|vb| candle_nn::lstm(4, 3, config, vb), |vb| nn::lstm(4, 3, config, vb));
        let (theirs, ours) = (a.seq(&x).unwrap(), b.seq(&x).unwrap());
        assert_same(&a.states_to_tensor(&theirs).unwrap(), &b.states_to_tensor(&ours).unwrap());
        assert_same(&theirs[4].c, &ours[4].c);
        let first = x.narrow(1, 0, 1).unwrap().squeeze(1).unwrap();
        let stepped = b.step(&first, &b.zero_state(2).unwrap()).unwrap();
        assert_same(&stepped.h, &ours[0].h);
    }
    let config = nn::GRUConfig::default();
    let (a, b) = both(|vb| candle_nn::gru(4, 3, config, vb), |vb| nn::gru(4, 3, config, vb));
    let (theirs, ours) = (a.seq(&x).unwrap(), b.seq(&x).unwrap());
    let theirs = a.states_to_tensor(&theirs).unwrap().reshape((2, 5, 3)).unwrap();
    assert_same(&theirs, &b.states_to_tensor(&ours).unwrap());
    let first = x.narrow(1, 0, 1).unwrap().squeeze(1).unwrap();
    assert_same(&b.step(&first, &b.zero_state(2).unwrap()).unwrap().h, &ours[0].h);
}

/// A builder over given tensors.
fn builder(tensors: &[(&str, &Tensor)]) -> VarBuilder<'static> {
    let map = tensors.iter().map(|(name, t)| (name.to_string(), (*t).clone())).collect();
    VarBuilder::from_tensors(map, tensors[0].1.dtype(), &Device::Cpu)
}

#[test]
fn recurrent_layers_have_right_gradients_in_every_dtype() {
    let named = |t: &[Tensor]| {
        builder(&[
            ("weight_ih_l0", &t[1]),
            ("weight_hh_l0", &t[2]),
            ("bias_ih_l0", &t[3]),
            ("bias_hh_l0", &t[4]),
        ])
    };
    let sequence = |t: &[Tensor]| -> Result<Tensor> {
        let lstm = nn::lstm(2, 3, Default::default(), named(t))?;
        let state = nn::LSTMState { h: t[5].clone(), c: t[6].clone() };
        let states = lstm.seq_init(&t[0], &state)?;
        let last = &states[states.len() - 1].c;
        Ok(Tensor::cat(&[&lstm.states_to_tensor(&states)?, &last.unsqueeze(1)?], 1)?)
    };
    let v = |dims: &[usize], seed| values(dims, seed);
    let inputs = [
        v(&[2, 5, 2], 1),
        v(&[12, 2], 2),
        v(&[12, 3], 3),
        v(&[12], 4),
        v(&[12], 5),
        v(&[2, 3], 6),
        v(&[2, 3], 7),
    ];
    // Five steps, each of about eight roundings of values below 3, whose effects on the state add up.
    check_close("lstm", 120., &sequence, &inputs);
    let sequence = |t: &[Tensor]| -> Result<Tensor> {
        let gru = nn::gru(2, 3, Default::default(), named(t))?;
        let states = gru.seq_init(&t[0], &nn::GRUState { h: t[5].clone() })?;
        Ok(gru.states_to_tensor(&states)?)
    };
    let inputs = [v(&[2, 5, 2], 1), v(&[9, 2], 2), v(&[9, 3], 3), v(&[9], 4), v(&[9], 5), v(&[2, 3], 6)];
    check_close("gru", 120., &sequence, &inputs);
}

#[test]
fn empty_sequences_and_wrong_states() {
    let lstm = nn::lstm(2, 3, Default::default(), VarBuilder::zeros(DType::F32, &Device::Cpu)).unwrap();
    assert!(lstm.seq(&f32s(&[2, 0, 2])).unwrap().is_empty());
    assert!(lstm.seq(&f32s(&[2, 2])).is_err());
    assert!(lstm.seq(&f32s(&[2, 4, 3])).is_err());
    let state = nn::LSTMState { h: f32s(&[3, 3]), c: f32s(&[2, 3]) };
    assert!(lstm.seq_init(&f32s(&[2, 4, 2]), &state).is_err());
    assert_eq!(lstm.seq(&f32s(&[0, 4, 2])).unwrap().len(), 4);
}

fn mha_inputs() -> [Tensor; 7] {
    let v = |dims: &[usize], seed| values(dims, seed);
    [
        v(&[2, 3, 4], 1),
        v(&[2, 5, 4], 2),
        v(&[2, 5, 4], 3),
        v(&[12, 4], 4),
        v(&[12], 5),
        v(&[4, 4], 6),
        v(&[4], 7),
    ]
}

fn mha(t: &[Tensor]) -> candle_core::Result<nn::MultiHeadAttention> {
    let vb = builder(&[
        ("in_proj_weight", &t[0]),
        ("in_proj_bias", &t[1]),
        ("out_proj.weight", &t[2]),
        ("out_proj.bias", &t[3]),
    ]);
    nn::multi_head_attention(4, 2, MultiHeadAttentionConfig::default(), vb)
}

#[test]
fn multi_head_attention_is_its_heads_side_by_side() {
    let t = mha_inputs();
    let layer = mha(&t[3..]).unwrap();
    let got = layer.attend(&t[0], &t[1], &t[2], &AttentionOptions::default()).unwrap();
    let project = |x: &Tensor, which: usize, head: usize| {
        let start = which * 4 + head * 2;
        let (w, b) = (t[3].narrow(0, start, 2).unwrap(), t[4].narrow(0, start, 2).unwrap());
        ops::linear(x, &w, Some(&b)).unwrap()
    };
    let head = |h| {
        let (q, k, v) = (project(&t[0], 0, h), project(&t[1], 1, h), project(&t[2], 2, h));
        ops::scaled_dot_product_attention(&q, &k, &v, &AttentionOptions::default()).unwrap()
    };
    let want = ops::linear(&Tensor::cat(&[head(0), head(1)], 2).unwrap(), &t[5], Some(&t[6])).unwrap();
    for (got, want) in to_f64(&got).iter().zip(to_f64(&want)) {
        assert!((got - want).abs() < 1e-13);
    }
    // One tensor for all three takes one product, with the same result as three.
    let same = layer.forward(&t[1]).unwrap();
    let three = layer
        .attend(&t[1], &t[1].copy().unwrap(), &t[1].copy().unwrap(), &AttentionOptions::default())
        .unwrap();
    assert_same(&three, &same);
}

#[test]
fn multi_head_attention_has_right_gradients() {
    let t = mha_inputs();
    let cross = |t: &[Tensor]| -> Result<Tensor> {
        Ok(mha(&t[3..])?.attend(&t[0], &t[1], &t[2], &AttentionOptions::default())?)
    };
    // Scores up to 16 amplify a rounding in the projections by as much.
    check_close("cross-attention", 200., &cross, &t);
    let own = |t: &[Tensor]| -> Result<Tensor> {
        Ok(mha(&t[1..])?.attend(&t[0], &t[0], &t[0], &AttentionOptions::causal())?)
    };
    check_gradients("self-attention", &own, &[&t[1..2], &t[3..]].concat());
    let padding = Tensor::new(&[[1u8, 1, 1, 0, 0], [1, 1, 1, 1, 1]], &Device::Cpu).unwrap();
    let options = AttentionOptions {
        mask: AttentionMask::Boolean(padding.reshape((2, 1, 1, 5)).unwrap()),
        ..Default::default()
    };
    let masked =
        |t: &[Tensor]| -> Result<Tensor> { Ok(mha(&t[3..])?.attend(&t[0], &t[1], &t[2], &options)?) };
    check_gradients("padded keys", &masked, &t);
}

#[test]
fn multi_head_attention_starts_as_pytorchs() {
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    nn::multi_head_attention(32, 4, MultiHeadAttentionConfig::default(), vb.clone()).unwrap();
    let data = map.data().lock().unwrap().clone();
    let largest = |name: &str| to_f64(&data[name]).iter().fold(0f64, |m: f64, v| m.max(v.abs()));
    for (name, bound) in [("in_proj_weight", (6f64 / 128.).sqrt()), ("out_proj.weight", (1f64 / 32.).sqrt())]
    {
        assert!(largest(name) <= bound && largest(name) > 0.95 * bound, "{name}: {}", largest(name));
    }
    assert_eq!((largest("in_proj_bias"), largest("out_proj.bias")), (0., 0.));
    let error = nn::multi_head_attention(32, 5, MultiHeadAttentionConfig::default(), vb);
    let said = error.unwrap_err().to_string();
    assert!(
        said.starts_with("multi_head_attention: heads is 5; expected a divisor of the embedding, 32"),
        "{said}"
    );
}

#[test]
fn every_parameter_of_every_layer_gets_a_gradient() {
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    let run = || -> Result<Tensor> {
        let x = nn::embedding(9, 4, vb.pp("embed"))?.forward(&Tensor::new(&[[1u32, 2, 3]], &Device::Cpu)?)?;
        let x =
            nn::multi_head_attention(4, 2, MultiHeadAttentionConfig::default(), vb.pp("mha"))?.forward(&x)?;
        let x = nn::linear(4, 4, vb.pp("linear"))?.forward(&x)?;
        let x = nn::conv1d(3, 4, 1, Default::default(), vb.pp("conv1d"))?.forward(&x)?;
        let x = nn::conv_transpose1d(4, 4, 2, Default::default(), vb.pp("convt1d"))?.forward(&x)?;
        let x = nn::conv2d(1, 2, 2, Default::default(), vb.pp("conv2d"))?.forward(&x.unsqueeze(1)?)?;
        let x = nn::conv_transpose2d(2, 1, 2, Default::default(), vb.pp("convt2d"))?.forward(&x)?;
        let lstm = nn::lstm(5, 3, Default::default(), vb.pp("lstm"))?;
        let x = lstm.states_to_tensor(&lstm.seq(&x.squeeze(1)?)?)?;
        let gru = nn::gru(3, 2, Default::default(), vb.pp("gru"))?;
        Ok(gru.states_to_tensor(&gru.seq(&x)?)?.sqr()?.sum_all()?)
    };
    let grads = autocast::backward(run().unwrap()).unwrap();
    for (name, var) in map.data().lock().unwrap().iter() {
        let grad = grads.get(var as &Var).unwrap_or_else(|| panic!("{name} has no gradient"));
        assert!(to_f64(grad).iter().any(|g| *g != 0.), "{name}: the gradient is zero");
    }
}
