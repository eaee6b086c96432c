//! Arithmetic, activations, functions of single elements, joining and dropout: gradients, agreement of the dtypes,
//! promotion, and every place where plain candle and PyTorch differ.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use autocast::{Result, nn, ops};
use candle_core::{DType, Device, Module, Tensor, Var};
use checks::catalogue::samples::numbers;
use checks::catalogue::{cases_arithmetic, cases_pointwise, check::check_all};
use proptest::prelude::*;

#[test]
fn gradients_and_dtypes_agree() {
    check_all(cases_arithmetic::CASES, &Device::Cpu);
}

#[test]
fn activations_and_functions_agree_too() {
    check_all(cases_pointwise::CASES, &Device::Cpu);
}

/// The gradient of the sum of `f(x)`, in f32.
fn gradient(x: &[f32], f: impl Fn(&Tensor) -> Result<Tensor>) -> Vec<f64> {
    let x = Var::new(x, &Device::Cpu).unwrap();
    let grads = autocast::backward(f(&x).unwrap().sum_all().unwrap()).unwrap();
    numbers(grads.get(&x).unwrap())
}

#[test]
fn values_follow_their_formulas() {
    type Op = fn(&Tensor) -> Result<Tensor>;
    type Formula = fn(f64) -> f64;
    let all: [(&str, Op, Formula); 22] = [
        ("gelu_tanh", ops::gelu_tanh, |x| {
            0.5 * x * (1. + ((2. / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }),
        ("relu", ops::relu, |x| x.max(0.)),
        ("silu", ops::silu, |x| x / (1. + (-x).exp())),
        ("sigmoid", ops::sigmoid, |x| 1. / (1. + (-x).exp())),
        ("tanh", ops::tanh, f64::tanh),
        ("softplus", ops::softplus, |x| x.exp().ln_1p()),
        ("elu", |x| ops::elu(x, 0.7), |x| if x > 0. { x } else { 0.7 * x.exp_m1() }),
        ("leaky_relu", |x| ops::leaky_relu(x, 0.1), |x| if x > 0. { x } else { 0.1 * x }),
        ("hardtanh", |x| ops::hardtanh(x, -1., 2.), |x| x.clamp(-1., 2.)),
        ("hardsigmoid", ops::hardsigmoid, |x| (x + 3.).clamp(0., 6.) / 6.),
        ("hardswish", ops::hardswish, |x| x * (x + 3.).clamp(0., 6.) / 6.),
        ("mish", ops::mish, |x| x * x.exp().ln_1p().tanh()),
        ("exp", ops::exp, f64::exp),
        ("expm1", ops::expm1, f64::exp_m1),
        ("log1p of the square", |x| ops::log1p(&ops::square(x)?), |x| (x * x).ln_1p()),
        ("log2 of the absolute", |x| ops::log2(&ops::abs(x)?), |x| x.abs().log2()),
        ("log10 of the absolute", |x| ops::log10(&ops::abs(x)?), |x| x.abs().log10()),
        ("tan", ops::tan, f64::tan),
        ("sinh", ops::sinh, f64::sinh),
        ("cosh", ops::cosh, f64::cosh),
        ("pow 3", |x| ops::powf(x, 3.), |x| x.powi(3)),
        ("clamp", |x| ops::clamp(x, -1., 2.), |x| x.clamp(-1., 2.)),
    ];
    let x = [-25., -4., -1.3, -0.2, 1e-3, 0.4, 2.5, 7., 30.];
    let t = Tensor::new(&x, &Device::Cpu).unwrap();
    for (name, op, formula) in all {
        for (got, want) in std::iter::zip(numbers(&op(&t).unwrap()), x.map(formula)) {
            // The formulas cancel, too: where they do, an error relative to the numbers that were subtracted, below 32.
            let bound = 32. * f64::EPSILON * want.abs().max(1.);
            assert!((got - want).abs() <= bound, "{name}: {got}, not {want}");
        }
    }
    // Abramowitz and Stegun, table 26.1: the normal distribution at 1 and 2.
    let gelu = numbers(&ops::gelu(&Tensor::new(&[1., -2.], &Device::Cpu).unwrap()).unwrap());
    let want = [0.841344746068543, -2. * (1. - 0.977249868051821)];
    assert!(std::iter::zip(&gelu, want).all(|(g, w)| (g - w).abs() < 1e-14), "{gelu:?}");
}

#[test]
fn gradients_at_kinks_are_pytorchs() {
    assert_eq!(gradient(&[-1., 0., 1.], ops::relu), [0., 0., 1.]);
    assert_eq!(gradient(&[-1., 0., 1.], ops::abs), [-1., 0., 1.]);
    assert_eq!(gradient(&[0.], |x| ops::leaky_relu(x, 0.1)), [f64::from(0.1f32)]);
    assert_eq!(gradient(&[-1., 0., 1.], |x| ops::clamp(x, -1., 1.)), [1., 1., 1.]);
    assert_eq!(gradient(&[-1., 0., 1.], |x| ops::hardtanh(x, -1., 1.)), [0., 1., 0.]);
    assert_eq!(gradient(&[0.], ops::sqrt), [f64::INFINITY]);
    assert_eq!(gradient(&[0., 2.], |x| ops::powf(x, 0.)), [0., 0.]);
    assert_eq!(gradient(&[0., 2.], |x| ops::powf(x, 1.)), [1., 1.]);
}

#[test]
fn equal_elements_share_the_gradient_of_maximum() {
    let b = Tensor::new(&[1f32, 2., 3.], &Device::Cpu).unwrap();
    assert_eq!(gradient(&[2., 2., 2.], |a| ops::maximum(a, &b)), [1., 0.5, 0.]);
    assert_eq!(gradient(&[2., 2., 2.], |a| ops::minimum(a, &b)), [0., 0.5, 1.]);
}

#[test]
fn nan_stays_nan() {
    let nan = Tensor::new(&[f32::NAN], &Device::Cpu).unwrap();
    let one = nan.ones_like().unwrap();
    let relu6 = |x: &Tensor| ops::hardtanh(x, 0., 6.);
    type Op<'a> = &'a dyn Fn(&Tensor) -> Result<Tensor>;
    let all: [Op<'_>; 8] = [
        &ops::relu,
        &relu6,
        &ops::gelu,
        &ops::silu,
        &|x| ops::clamp(x, 0., 1.),
        &|x| ops::maximum(x, &one),
        &|x| ops::maximum(&one, x),
        &|x| ops::minimum(&one, x),
    ];
    for (at, op) in all.iter().enumerate() {
        assert!(numbers(&op(&nan).unwrap())[0].is_nan(), "op {at}");
    }
}

#[test]
fn log1p_and_expm1_keep_the_digits_of_small_arguments() {
    for x in [0f32, 1e-30, -1e-30, 1e-8, -1e-8, 1e-4, 0.3, -0.3, 3., -0.99, 80.] {
        let t = Tensor::new(&[x], &Device::Cpu).unwrap();
        let wide = f64::from(x);
        for (got, want) in [(ops::log1p(&t), wide.ln_1p()), (ops::expm1(&t), wide.exp_m1())] {
            let got = numbers(&got.unwrap())[0];
            assert!(
                (got - want).abs() <= 8. * f64::from(f32::EPSILON) * want.abs(),
                "{x}: {got}, not {want}"
            );
        }
    }
    let ends = Tensor::new(&[-1f32, f32::INFINITY], &Device::Cpu).unwrap();
    assert_eq!(numbers(&ops::log1p(&ends).unwrap()), [f64::NEG_INFINITY, f64::INFINITY]);
    let ends = Tensor::new(&[f32::NEG_INFINITY, f32::INFINITY], &Device::Cpu).unwrap();
    assert_eq!(numbers(&ops::expm1(&ends).unwrap()), [-1., f64::INFINITY]);
}

#[test]
fn activations_far_out() {
    assert_eq!(gradient(&[-1e4, 1e4], ops::softplus), [0., 1.]);
    assert_eq!(gradient(&[-1e4, 1e4], ops::silu), [0., 1.]);
    assert_eq!(gradient(&[-1e4, 1e4], ops::sigmoid), [0., 0.]);
    assert_eq!(gradient(&[-1e4, 1e4], ops::mish), [0., 1.]);
    assert_eq!(gradient(&[-1e4, 1e4], |x| ops::elu(x, 1.)), [0., 1.]);
}

#[test]
fn promotion_is_pytorchs() {
    use DType::{BF16, F16, F32, F64, I64, U8};
    let of = |dtype, dims: &[usize]| Tensor::ones(dims, dtype, &Device::Cpu).unwrap();
    for (a, b, want) in [
        (F16, BF16, F32),
        (F16, F32, F32),
        (BF16, F64, F64),
        (I64, F16, F16),
        (U8, I64, I64),
        (F16, F16, F16),
    ] {
        assert_eq!(ops::add(&of(a, &[2]), &of(b, &[2])).unwrap().dtype(), want);
        assert_eq!(ops::mul(&of(b, &[2]), &of(a, &[2])).unwrap().dtype(), want);
    }
    // A tensor without dimensions does not widen one with them, unless it is of a higher kind.
    assert_eq!(ops::mul(&of(F16, &[2]), &of(F32, &[])).unwrap().dtype(), F16);
    assert_eq!(ops::mul(&of(I64, &[2]), &of(F16, &[])).unwrap().dtype(), F16);
    assert_eq!(ops::div(&of(I64, &[2]), &of(I64, &[2])).unwrap().dtype(), F32);
    assert_eq!(ops::add_scalar(&of(U8, &[2]), 0.5).unwrap().dtype(), F32);
    assert_eq!(ops::cat(&[&of(F16, &[2]), &of(F32, &[2])], 0).unwrap().dtype(), F32);
}

#[test]
fn bad_input_is_an_error_that_names_the_op() {
    let of = |dims: &[usize]| Tensor::ones(dims, DType::F32, &Device::Cpu).unwrap();
    let integers = of(&[2]).to_dtype(DType::U32).unwrap();
    for (op, result) in [
        ("add", ops::add(&of(&[2]), &of(&[3]))),
        ("div", ops::div(&of(&[2]), &of(&[3]))),
        ("exp", ops::exp(&integers)),
        ("gelu", ops::gelu(&integers)),
        ("clamp", ops::clamp(&of(&[2]), 1., 0.)),
        ("clamp", ops::clamp(&of(&[2]), f64::NAN, 0.)),
        ("dropout", ops::dropout(&of(&[2]), 1.5, 0)),
        ("cat", ops::cat(&[], 0)),
        ("cat", ops::cat(&[&of(&[2, 3]), &of(&[2])], 0)),
        ("stack", ops::stack(&[&of(&[2]), &of(&[3])], 0)),
        ("where", ops::where_cond(&of(&[2]), &of(&[2]), &of(&[2]))),
        ("where", ops::where_cond(&integers, &of(&[3]), &of(&[3]))),
        ("swiglu", ops::swiglu(&of(&[3]))),
    ] {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(op), "{message}");
    }
}

#[test]
fn a_seed_is_a_mask() {
    let x = Tensor::ones((64, 64), DType::F32, &Device::Cpu).unwrap();
    let drop = |p: f64, seed: u64| numbers(&ops::dropout(&x, p, seed).unwrap());
    assert_eq!(drop(0.25, 3), drop(0.25, 3));
    assert_ne!(drop(0.25, 3), drop(0.25, 4));
    let kept = drop(0.25, 3).iter().filter(|&&v| v != 0.).count() as f64 / 4096.;
    // Four standard deviations of a mean of 4096 draws.
    assert!((kept - 0.75).abs() < 4. * (0.25f64 * 0.75 / 4096.).sqrt(), "{kept}");
    assert!(drop(0., 3).iter().all(|&v| v == 1.));
    assert!(drop(1., 3).iter().all(|&v| v == 0.));
    assert_eq!(gradient(&[1., 2.], |x| ops::dropout(x, 1., 0)), [0., 0.]);
    assert_eq!(gradient(&[1., 2.], |x| ops::dropout(x, 0., 0)), [1., 1.]);
}

#[test]
fn a_dropout_layer_draws_a_new_mask_at_every_call() {
    let x = Tensor::ones(256, DType::F32, &Device::Cpu).unwrap();
    let layer = nn::Dropout::with_seed(0.5, 1);
    let [first, second] = [0, 1].map(|_| numbers(&layer.forward(&x, true).unwrap()));
    assert_ne!(first, second);
    let again = nn::Dropout::with_seed(0.5, 1);
    assert_eq!(numbers(&again.forward(&x, true).unwrap()), first);
    assert_eq!(numbers(&layer.forward(&x, false).unwrap()), numbers(&x));
    assert!(nn::Dropout::new(2.).forward(&x, true).is_err());
}

#[test]
fn layers_run_one_after_another() {
    let x = Tensor::new(&[-1f32, 7.], &Device::Cpu).unwrap();
    let model = nn::seq().add(nn::Activation::Relu6).add_fn(|x| x * 2.).add(nn::Activation::Relu2);
    assert_eq!(model.len(), 3);
    assert_eq!(numbers(&model.forward(&x).unwrap()), [0., 144.]);
    assert_eq!(model.forward_all(&x).unwrap().len(), 3);
}

#[test]
fn what_an_op_returns_without_tracked_inputs_has_no_graph() {
    let x = Tensor::ones((2, 3), DType::F32, &Device::Cpu).unwrap();
    assert!(!ops::gelu(&x).unwrap().track_op());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    /// Arithmetic on any two shapes that broadcast, empty ones and transposed ones among them: the gradients have the
    /// operands' shapes, and those of a sum count how often each element was used.
    #[test]
    fn broadcasting_counts(
        dims in prop::collection::vec((0usize..4, any::<bool>(), any::<bool>()), 1..4),
        skip in 0usize..3,
        transposed: bool,
    ) {
        let side = |one: fn(&(usize, bool, bool)) -> bool| -> Vec<usize> {
            dims.iter().map(|d| if one(d) { 1 } else { d.0 }).collect()
        };
        let (mut a, b) = (side(|d| d.1), side(|d| d.2));
        let b = &b[skip.min(b.len())..];
        let last = a.len() - 1;
        if transposed {
            a.swap(0, last);
        }
        let ones = |dims: &[usize]| Var::ones(dims, DType::F16, &Device::Cpu).unwrap();
        let (a, b) = (ones(&a), ones(b));
        let x = if transposed { a.transpose(0, last).unwrap() } else { a.as_tensor().clone() };
        let sum = ops::add(&x, &b).unwrap();
        let grads = autocast::backward(sum.to_dtype(DType::F32).unwrap().sum_all().unwrap()).unwrap();
        for var in [&a, &b] {
            let grad = grads.get(var).unwrap();
            prop_assert_eq!(grad.dims(), var.dims());
            let uses = sum.elem_count() as f64 / var.elem_count().max(1) as f64;
            prop_assert!(numbers(grad).iter().all(|&g| g == uses));
        }
    }
}
