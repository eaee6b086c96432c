//! `scaled_dot_product_attention`: values, gradients, masks, dropout and errors.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use autocast::ops::{
    AttentionDropout, AttentionMask, AttentionOptions, DropoutSeed, scaled_dot_product_attention,
};
use autocast::{Error, Result, ops};
use candle_core::{D, DType, Device, Tensor, Var};
use checks::catalogue::functions::{check_close, check_gradients, to_f64, value_and_gradients, values};
use proptest::prelude::*;

/// The formula, in f64 and by candle's ops.
fn by_hand(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, add: Option<&Tensor>) -> Tensor {
    let scores = (q.matmul(&k.t().unwrap()).unwrap() * scale).unwrap();
    let scores = add.map_or(Ok(scores.clone()), |add| scores.broadcast_add(add)).unwrap();
    candle_nn::ops::softmax(&scores, D::Minus1).unwrap().matmul(v).unwrap()
}

fn assert_near(got: &Tensor, want: &Tensor, bound: f64) {
    assert_eq!(got.dims(), want.dims());
    for (got, want) in to_f64(got).iter().zip(to_f64(want)) {
        assert!((got - want).abs() <= bound, "{got}, want {want} ± {bound}");
    }
}

fn qkv() -> [Tensor; 3] {
    [values(&[2, 2, 3, 4], 1), values(&[2, 2, 5, 4], 2), values(&[2, 2, 5, 3], 3)]
}

fn with(mask: AttentionMask) -> AttentionOptions {
    AttentionOptions { mask, ..Default::default() }
}

fn sdpa(t: &[Tensor], options: &AttentionOptions) -> Result<Tensor> {
    scaled_dot_product_attention(&t[0], &t[1], &t[2], options)
}

const HIDDEN: f64 = f64::NEG_INFINITY;

#[test]
fn gradients_and_dtypes_agree() {
    checks::catalogue::check::check_all(checks::catalogue::cases_attention::CASES, &Device::Cpu);
}

#[test]
fn it_is_the_formula() {
    let [q, k, v] = qkv();
    let t = [q.clone(), k.clone(), v.clone()];
    assert_near(&sdpa(&t, &Default::default()).unwrap(), &by_hand(&q, &k, &v, 0.5, None), 1e-14);
    let scaled = AttentionOptions { scale: Some(3.), ..Default::default() };
    assert_near(&sdpa(&t, &scaled).unwrap(), &by_hand(&q, &k, &v, 3., None), 1e-14);

    let rows = [
        [0., HIDDEN, HIDDEN, HIDDEN, HIDDEN],
        [0., 0., HIDDEN, HIDDEN, HIDDEN],
        [0., 0., 0., HIDDEN, HIDDEN],
    ];
    let add = Tensor::new(&rows, &Device::Cpu).unwrap();
    let causal = by_hand(&q, &k, &v, 0.5, Some(&add));
    assert_near(&sdpa(&t, &AttentionOptions::causal()).unwrap(), &causal, 1e-14);
    assert_near(&sdpa(&t, &with(AttentionMask::Additive(add.clone()))).unwrap(), &causal, 1e-14);
    let seen = add.eq(0.).unwrap();
    assert_near(&sdpa(&t, &with(AttentionMask::Boolean(seen))).unwrap(), &causal, 1e-14);
    let soft = values(&[2, 1, 1, 5], 9);
    let want = by_hand(&q, &k, &v, 0.5, Some(&soft));
    assert_near(&sdpa(&t, &with(AttentionMask::Additive(soft))).unwrap(), &want, 1e-14);
}

#[test]
fn gradients_are_right_with_every_mask() {
    let seen = Tensor::new(&[[1u8, 0, 1, 1, 0], [0, 1, 0, 0, 0], [1, 1, 1, 1, 1]], &Device::Cpu).unwrap();
    let dropout = AttentionOptions {
        dropout: Some(AttentionDropout { p: 0.4, seed: 7.into() }),
        ..AttentionOptions::causal()
    };
    let cases = [
        ("plain", AttentionOptions::default()),
        ("causal", AttentionOptions::causal()),
        ("boolean", with(AttentionMask::Boolean(seen))),
        ("dropout", dropout),
    ];
    for (name, options) in cases {
        // On a CPU everything between the inputs and the results is f32: one rounding.
        check_close(name, 1., &|t| sdpa(t, &options), &qkv());
    }
}

#[test]
fn a_trained_mask_gets_its_gradient() {
    let [q, k, v] = qkv();
    for dims in [vec![3, 5], vec![2, 1, 1, 5], vec![5]] {
        let run = |t: &[Tensor]| sdpa(t, &with(AttentionMask::Additive(t[3].clone())));
        let inputs = [q.clone(), k.clone(), v.clone(), values(&dims, 4)];
        check_close("trained mask", 1., &run, &inputs);
        let untracked = sdpa(&inputs, &with(AttentionMask::Additive(inputs[3].clone()))).unwrap();
        let weights = untracked.ones_like().unwrap();
        assert_near(&value_and_gradients(&run, &inputs, &weights).0, &untracked, 1e-14);
    }
}

#[test]
fn a_query_that_sees_nothing_gives_zeros_and_no_nan() {
    let seen = Tensor::new(&[[1u8, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], &Device::Cpu).unwrap();
    let add = seen.where_cond(
        &Tensor::zeros((3, 5), DType::F64, &Device::Cpu).unwrap(),
        &Tensor::full(HIDDEN, (3, 5), &Device::Cpu).unwrap(),
    );
    let run = |mask: AttentionMask| {
        let f = |t: &[Tensor]| sdpa(t, &with(mask.clone()));
        let out = f(&qkv()).unwrap();
        assert_eq!(to_f64(&out.narrow(2, 1, 1).unwrap()), [0.; 12]);
        check_gradients("hidden row", &f, &qkv());
        let (_, grads) = value_and_gradients(&f, &qkv(), &out.ones_like().unwrap());
        assert_eq!(to_f64(&grads[0].narrow(2, 1, 1).unwrap()), [0.; 16]);
    };
    run(AttentionMask::Boolean(seen));
    run(AttentionMask::Additive(add.unwrap()));
}

#[test]
fn dropout_follows_its_seed_and_keeps_the_mean() {
    let (q, k) = (
        Tensor::zeros((1, 64, 2), DType::F32, &Device::Cpu),
        Tensor::zeros((1, 64, 2), DType::F32, &Device::Cpu),
    );
    let v = Tensor::ones((1, 64, 1), DType::F32, &Device::Cpu).unwrap();
    let t = [q.unwrap(), k.unwrap(), v];
    let drop = |p, seed| {
        let options = AttentionOptions {
            dropout: Some(AttentionDropout { p, seed: DropoutSeed::from(seed) }),
            ..Default::default()
        };
        to_f64(&sdpa(&t, &options).unwrap())
    };
    assert_eq!(drop(0.25, 1), drop(0.25, 1));
    assert_ne!(drop(0.25, 1), drop(0.25, 2));
    assert!(drop(1., 1).iter().all(|x| *x == 0.));
    assert!(drop(0., 1).iter().all(|x| (x - 1.).abs() < 1e-5));
    // 4096 entries of variance 1/3: the mean's standard deviation is 0.009.
    let mean = drop(0.25, 1).iter().sum::<f64>() / 64.;
    assert!((mean - 1.).abs() < 0.045, "{mean}");
}

#[test]
fn long_rows_keep_their_sum_in_16_bits() {
    for dtype in [DType::F16, DType::BF16] {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, dtype, &Device::Cpu).unwrap();
        let v = Tensor::ones((1, 4096, 1), dtype, &Device::Cpu).unwrap();
        let out = sdpa(&[zeros(&[1, 1, 2]), zeros(&[1, 4096, 2]), v], &Default::default()).unwrap();
        assert_eq!(to_f64(&out), [1.], "{dtype:?}");
    }
}

#[test]
fn bad_input_is_a_typed_error() {
    let v = |dims: &[usize]| values(dims, 1);
    let shape = |t: [Tensor; 3], options: AttentionOptions| {
        let error = sdpa(&t, &options);
        assert!(
            matches!(&error, Err(Error::InvalidArgument { got, .. }) if got.starts_with("of shape")),
            "{error:?}"
        );
    };
    let plain = AttentionOptions::default;
    shape([v(&[4]), v(&[5, 4]), v(&[5, 4])], plain());
    shape([v(&[3, 4]), v(&[5, 3]), v(&[5, 4])], plain());
    shape([v(&[3, 4]), v(&[5, 4]), v(&[4, 4])], plain());
    shape([v(&[2, 3, 4]), v(&[3, 5, 4]), v(&[3, 5, 4])], plain());
    let mask = |dims: &[usize]| with(AttentionMask::Additive(v(dims)));
    shape([v(&[3, 4]), v(&[5, 4]), v(&[5, 4])], mask(&[5, 3]));
    shape([v(&[3, 4]), v(&[5, 4]), v(&[5, 4])], mask(&[2, 3, 5]));
    let floats = with(AttentionMask::Boolean(v(&[3, 5])));
    let dtype = sdpa(&[v(&[3, 4]), v(&[5, 4]), v(&[5, 4])], &floats);
    assert!(
        matches!(&dtype, Err(Error::InvalidArgument { expected, .. }) if expected.ends_with("; cast it")),
        "{dtype:?}"
    );
    let mixed = sdpa(&[v(&[3, 4]), v(&[5, 4]).to_dtype(DType::F32).unwrap(), v(&[5, 4])], &plain());
    assert!(
        matches!(&mixed, Err(Error::InvalidArgument { expected, .. }) if expected.ends_with("; cast one of them")),
        "{mixed:?}"
    );
    for p in [-0.1, 1.1, f64::NAN] {
        let options = AttentionOptions { dropout: Some(AttentionDropout { p, seed: 0.into() }), ..plain() };
        let error = sdpa(&[v(&[3, 4]), v(&[5, 4]), v(&[5, 4])], &options);
        assert!(matches!(error, Err(Error::InvalidArgument { .. })), "{error:?}");
    }
    let nan = AttentionOptions { scale: Some(f64::NAN), ..plain() };
    assert!(matches!(sdpa(&qkv(), &nan), Err(Error::InvalidArgument { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_shape_has_right_gradients(
        lead in prop::collection::vec(0usize..3, 0..3),
        queries in 0usize..4, keys in 0usize..4, width in 0usize..3, out in 0usize..3, causal: bool,
    ) {
        let of = |a: usize, b: usize, seed| {
            let mut dims = lead.clone();
            dims.extend([b, a]);
            values(&dims, seed)
        };
        let options = if causal { AttentionOptions::causal() } else { AttentionOptions::default() };
        // The operands are transposed views, as heads split from one projection are.
        let run = |t: &[Tensor]| {
            let turned = t.iter().map(|t| t.t()).collect::<candle_core::Result<Vec<_>>>()?;
            sdpa(&turned, &options)
        };
        check_gradients("attention", &run, &[of(queries, width, 1), of(keys, width, 2), of(keys, out, 3)]);
    }
}

/// Values of 3 queries and keys of width 2, in which key 2 is hidden from queries 0 and 1 and seen by nobody else.
fn hidden_key_masks() -> Vec<(&'static str, AttentionOptions)> {
    let inf = f32::NEG_INFINITY;
    let seen = Tensor::new(&[[1u8, 0, 0], [1, 1, 0], [0, 0, 0]], &Device::Cpu).unwrap();
    let add = Tensor::new(&[[0f32, inf, inf], [0., 0.5, inf], [inf, inf, inf]], &Device::Cpu).unwrap();
    let trained = Var::from_tensor(&add).unwrap().into_inner();
    let with = |mask| AttentionOptions { mask, ..Default::default() };
    vec![
        ("boolean", with(AttentionMask::Boolean(seen))),
        ("additive", with(AttentionMask::Additive(add))),
        ("trained", with(AttentionMask::Additive(trained))),
        ("causal", AttentionOptions::causal()),
    ]
}

/// The output for the first two queries and all gradients of its sum, of which those of the mask are last.
fn first_two(x: &[Tensor], options: &AttentionOptions) -> (Vec<f64>, Vec<Vec<f64>>) {
    let vars: Vec<Var> = x.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
    let out = ops::scaled_dot_product_attention(&vars[0], &vars[1], &vars[2], options).unwrap();
    let weights = Tensor::new(&[[1f32, 2.], [3., -1.]], &Device::Cpu).unwrap();
    let out = out.narrow(0, 0, 2).unwrap();
    let grads = autocast::backward(ops::sum_all(&ops::mul(&out, &weights).unwrap()).unwrap()).unwrap();
    let mut all: Vec<Vec<f64>> = vars.iter().map(|v| to_f64(grads.get(v).unwrap())).collect();
    if let AttentionMask::Additive(mask) = &options.mask {
        all.extend(grads.get(mask).map(to_f64));
    }
    (to_f64(&out), all)
}

#[test]
fn what_a_hidden_key_or_value_holds_does_not_matter() {
    for dtype in [DType::F32, DType::BF16] {
        let plain: Vec<Tensor> = (0..3).map(|i| values(&[3, 2], 40 + i).to_dtype(dtype).unwrap()).collect();
        for (name, options) in hidden_key_masks() {
            let want = first_two(&plain, &options);
            assert!(want.1.iter().flatten().all(|g| g.is_finite()), "{name}");
            for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                // The hidden key, its value, both; the row of index 2 of each.
                for which in [&[1usize][..], &[2], &[1, 2]] {
                    let mut x = plain.clone();
                    for &i in which {
                        let row = Tensor::full(odd, (1, 2), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
                        x[i] = Tensor::cat(&[&plain[i].narrow(0, 0, 2).unwrap(), &row], 0).unwrap();
                    }
                    let got = first_two(&x, &options);
                    // A head that is not finite is computed another way.
                    let near = |got: &[f64], want: &[f64]| {
                        let off = got.iter().zip(want).map(|(got, want)| (got - want).abs());
                        let most = if dtype == DType::F32 { 1e-6 } else { 1e-2 };
                        let off = off
                            .fold(0., |most: f64, off| if off > most || off.is_nan() { off } else { most });
                        assert!(off <= most, "{name} {dtype:?} {odd} {which:?}: {got:?} for {want:?}");
                    };
                    near(&got.0, &want.0);
                    // The third query of the causal mask sees it all, but its gradient is 0 here, and 0 times that NaN.
                    if name != "causal" {
                        got.1.iter().zip(&want.1).for_each(|(got, want)| near(got, want));
                    }
                }
            }
        }
    }
}

#[test]
fn what_a_visible_value_holds_is_told() {
    for (dtype, odd) in [(DType::F32, f32::NAN), (DType::F32, f32::INFINITY), (DType::BF16, f32::NAN)] {
        let x = Tensor::ones((3, 2), dtype, &Device::Cpu).unwrap();
        let v =
            Tensor::new(&[[1f32, 1.], [odd, 1.], [1., 1.]], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        let out = ops::scaled_dot_product_attention(&x, &x, &v, &AttentionOptions::causal()).unwrap();
        let finite: Vec<bool> = to_f64(&out).iter().map(|v| v.is_finite()).collect();
        assert_eq!(finite, [true, true, false, true, false, true], "{dtype:?} {odd}");
    }
}

#[test]
fn an_odd_gradient_of_a_query_stays_with_the_keys_that_it_sees() {
    let vars: Vec<Var> = (0..3).map(|i| Var::from_tensor(&values(&[3, 2], 50 + i)).unwrap()).collect();
    let vars: Vec<Var> =
        vars.iter().map(|v| Var::from_tensor(&v.to_dtype(DType::F32).unwrap()).unwrap()).collect();
    let out = ops::scaled_dot_product_attention(&vars[0], &vars[1], &vars[2], &AttentionOptions::causal());
    let weights = Tensor::new(&[[1f32, 1.], [f32::NAN, 1.], [1., 1.]], &Device::Cpu).unwrap();
    let loss = ops::sum_all(&ops::mul(&out.unwrap(), &weights).unwrap()).unwrap();
    let grads = autocast::backward(loss).unwrap();
    for (at, var) in vars.iter().enumerate() {
        let grad = to_f64(grads.get(var).unwrap());
        // Query 1 sees keys 0 and 1.
        let own = if at == 0 { &grad[..2] } else { &grad[4..] };
        assert!(own.iter().all(|g| g.is_finite()), "{at}: {grad:?}");
        assert!(grad[2].is_nan(), "{at}: {grad:?}");
    }
}
