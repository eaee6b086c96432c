//! Losses: gradients, agreement of the dtypes, saturated logits, and batches with nothing in them.

use autocast::ops::{self, BinaryCrossEntropy, CrossEntropy, KlTarget, Reduction};
use candle_core::{DType, Device, Tensor, Var};
use checks::catalogue::samples::numbers;
use checks::catalogue::{cases_losses, check::check_all};

#[test]
fn gradients_and_dtypes_agree() {
    check_all(cases_losses::CASES, &Device::Cpu);
}

#[test]
fn bce_at_saturated_logits_is_finite_and_its_gradient_right() {
    for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
        let logits = [-1e4, -100., 0., 100., 1e4];
        for target in [0., 0.5, 1.] {
            let x = Tensor::new(&logits, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
            let x = Var::from_tensor(&x).unwrap();
            let targets = Tensor::full(target, 5, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
            let options = BinaryCrossEntropy { reduction: Reduction::None, ..Default::default() };
            let loss = ops::binary_cross_entropy_with_logits(&x, &targets, &options).unwrap();
            assert!(numbers(&loss).iter().all(|l| l.is_finite()), "{dtype:?}: {loss}");
            let grads = autocast::backward(loss.to_dtype(DType::F32).unwrap().sum_all().unwrap()).unwrap();
            let want = [0., 0., 0.5, 1., 1.].map(|sigmoid| sigmoid - target);
            let got = numbers(grads.get(&x).unwrap());
            // In f64, exp(-100) is not 0 yet.
            assert!(std::iter::zip(&got, want).all(|(g, w)| (g - w).abs() < 1e-43), "{dtype:?}: {got:?}");
        }
    }
}

#[test]
fn weights_smoothing_and_ignored_targets_follow_the_formula() {
    // (0.9·w_t·(lse − x_t) + 0.1/3·Σ w_c (lse − x_c)) / Σ w_t over the rows whose target is not 1.
    let x = [[1.0f64, 2.0, 0.5], [0.3, 0.1, -1.0], [2.0, -1.0, 0.0]];
    let (w, targets) = ([1.0, 2.0, 0.5], [2usize, 1, 0]);
    let (mut loss, mut total) = (0., 0.);
    for (row, &t) in x.iter().zip(&targets).filter(|&(_, &t)| t != 1) {
        let lse = row.iter().map(|v| v.exp()).sum::<f64>().ln();
        let even: f64 = row.iter().zip(w).map(|(v, w)| w * (lse - v)).sum();
        loss += 0.9 * w[t] * (lse - row[t]) + 0.1 / 3. * even;
        total += w[t];
    }
    let options = CrossEntropy {
        weight: Some(Tensor::new(&w, &Device::Cpu).unwrap()),
        label_smoothing: 0.1,
        ignore_index: 1,
        reduction: Reduction::Mean,
    };
    let targets = Tensor::new(&[2i64, 1, 0], &Device::Cpu).unwrap();
    let got = ops::cross_entropy(&Tensor::new(&x, &Device::Cpu).unwrap(), &targets, &options).unwrap();
    assert!((numbers(&got)[0] - loss / total).abs() < 1e-14);
}

#[test]
fn an_empty_batch_and_ignored_targets_are_nan_on_average_and_0_in_sum() {
    let sum = CrossEntropy { reduction: Reduction::Sum, ..Default::default() };
    for (rows, targets) in [(0, vec![]), (2, vec![-100i64, -100])] {
        let logits = Var::zeros((rows, 3), DType::F32, &Device::Cpu).unwrap();
        let targets = Tensor::from_vec(targets, rows, &Device::Cpu).unwrap();
        let mean = ops::cross_entropy(&logits, &targets, &CrossEntropy::default()).unwrap();
        assert!(numbers(&mean)[0].is_nan());
        let total = ops::cross_entropy(&logits, &targets, &sum).unwrap();
        assert_eq!(numbers(&total), [0.]);
        let grads = autocast::backward(total).unwrap();
        assert!(numbers(grads.get(&logits).unwrap()).iter().all(|&g| g == 0.));
    }
    let empty = Tensor::zeros((0, 2), DType::F32, &Device::Cpu).unwrap();
    assert!(numbers(&ops::mse_loss(&empty, &empty, Reduction::Mean).unwrap())[0].is_nan());
    assert_eq!(numbers(&ops::mse_loss(&empty, &empty, Reduction::Sum).unwrap()), [0.]);
}

#[test]
fn any_integer_names_a_class() {
    let logits = Tensor::new(&[[0f32, 1., 2.], [2., 0., 1.]], &Device::Cpu).unwrap();
    let loss = |dtype| {
        let targets = Tensor::new(&[2u32, 1], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        numbers(&ops::cross_entropy(&logits, &targets, &CrossEntropy::default()).unwrap())
    };
    assert_eq!(loss(DType::U32), loss(DType::I64));
    assert_eq!(loss(DType::U32), loss(DType::U8));
}

#[test]
fn bad_input_is_an_error_that_says_what_is_wrong() {
    let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
    let targets = |t: &[i64]| Tensor::new(t, &Device::Cpu).unwrap();
    let default = CrossEntropy::default();
    let smoothing = CrossEntropy { label_smoothing: 1.5, ..Default::default() };
    let tracked = Var::ones(3, DType::F32, &Device::Cpu).unwrap();
    let weight = CrossEntropy { weight: Some(tracked.as_tensor().clone()), ..Default::default() };
    let short =
        CrossEntropy { weight: Some(x.get(0).unwrap().narrow(0, 0, 2).unwrap()), ..Default::default() };
    let ok = targets(&[0, 1]);
    for (part, result) in [
        ("target is 3", ops::cross_entropy(&x, &targets(&[0, 3]), &default)),
        ("target is -1", ops::cross_entropy(&x, &targets(&[0, -1]), &default)),
        ("[2]", ops::cross_entropy(&x, &targets(&[0, 1, 2]), &default)),
        ("[2, 3]", ops::cross_entropy(&x, &x.narrow(1, 0, 2).unwrap(), &default)),
        ("label_smoothing", ops::cross_entropy(&x, &ok, &smoothing)),
        ("detach", ops::cross_entropy(&x, &ok, &weight)),
        ("weight is of shape [2]; expected [3]", ops::cross_entropy(&x, &ok, &short)),
        ("target is 9", ops::nll_loss(&x, &targets(&[9, 0]), &Default::default())),
        ("u8", ops::nll_loss(&x, &x.get_on_dim(1, 0).unwrap(), &Default::default())),
        ("mse_loss", ops::mse_loss(&x, &x.get(0).unwrap(), Reduction::Mean)),
        ("beta", ops::smooth_l1_loss(&x, &x, -1., Reduction::Mean)),
        ("delta", ops::huber_loss(&x, &x, 0., Reduction::Mean)),
        ("probabilities", ops::binary_cross_entropy(&(&x + 2.).unwrap(), &x, None, Reduction::Mean)),
    ] {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_target_of_probability_zero_costs_nothing() {
    let x = Tensor::new(&[-1f32, -2.], &Device::Cpu).unwrap();
    let t = Tensor::new(&[0f32, 1.], &Device::Cpu).unwrap();
    let loss = ops::kl_div(&x, &t, KlTarget::Probability, Reduction::Sum).unwrap();
    assert_eq!(numbers(&loss), [2.]);
}

#[test]
fn a_batch_mean_divides_by_the_first_dimension() {
    let x = Tensor::new(&[[-1.5, -0.5, -1.], [-2., -0.25, -3.]], &Device::Cpu).unwrap();
    let t = Tensor::new(&[[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]], &Device::Cpu).unwrap();
    let kl = |reduction| numbers(&ops::kl_div(&x, &t, KlTarget::Probability, reduction).unwrap())[0];
    assert_eq!(kl(Reduction::BatchMean), kl(Reduction::Sum) / 2.);
    assert!((kl(Reduction::BatchMean) - kl(Reduction::Mean) * 3.).abs() < 1e-15);
}

#[test]
fn equal_input_and_target_have_no_slope() {
    let x = Var::zeros(2, DType::F32, &Device::Cpu).unwrap();
    for beta in [0., 1.] {
        let loss = ops::smooth_l1_loss(&x, &x.zeros_like().unwrap(), beta, Reduction::Sum).unwrap();
        assert_eq!(numbers(autocast::backward(loss).unwrap().get(&x).unwrap()), [0., 0.]);
    }
}

#[test]
fn values_follow_their_formulas() {
    let (x, t) = ([-1.5f64, 0.2, 0.9], [0.25f64, 0.5, 0.75]);
    let tensor = |values: &[f64]| Tensor::new(values, &Device::Cpu).unwrap();
    let none = Reduction::None;
    let (input, target) = (tensor(&x), tensor(&t));
    let likely = tensor(&[0.1, 0.2, 0.9]);
    let log = |p: f64| p.ln();
    for (name, loss, formula) in [
        ("mse", ops::mse_loss(&input, &target, none), [3.0625, 0.09, 0.0225]),
        ("l1", ops::l1_loss(&input, &target, none), [1.75, 0.3, 0.15]),
        ("smooth l1", ops::smooth_l1_loss(&input, &target, 0.5, none), [1.5, 0.09, 0.0225]),
        ("huber", ops::huber_loss(&input, &target, 0.5, none), [0.75, 0.045, 0.01125]),
        (
            "kl",
            ops::kl_div(&input, &target, KlTarget::Probability, none),
            std::array::from_fn(|i| t[i] * (log(t[i]) - x[i])),
        ),
        (
            "bce",
            ops::binary_cross_entropy(&likely, &target, None, none),
            [(0.1, 0.25), (0.2, 0.5), (0.9, 0.75)].map(|(p, t)| -(t * log(p) + (1. - t) * log(1. - p))),
        ),
        (
            "bce with logits",
            ops::binary_cross_entropy_with_logits(
                &input,
                &target,
                &BinaryCrossEntropy { reduction: none, ..Default::default() },
            ),
            std::array::from_fn(|i| {
                let p = 1. / (1. + (-x[i]).exp());
                -(t[i] * log(p) + (1. - t[i]) * log(1. - p))
            }),
        ),
    ] {
        let got = numbers(&loss.unwrap());
        assert!(std::iter::zip(&got, formula).all(|(g, w)| (g - w).abs() < 1e-14), "{name}: {got:?}");
    }
    let mean = ops::mse_loss(&input, &target, Reduction::Mean).unwrap();
    assert!((numbers(&mean)[0] - (3.0625 + 0.09 + 0.0225) / 3.).abs() < 1e-15);
}
