//! linear_cross_entropy against the two ops that it is.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use autocast::{Autocast, backward, ops};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use ops::{CrossEntropy, LinearCrossEntropy, Reduction};
use precision_types::{Accelerator, Precision};

const CPU: Device = Device::Cpu;
const ROWS: usize = 11;
const WIDTH: usize = 6;
const CLASSES: usize = 9;

fn numbers(dims: &[usize], salt: usize) -> Tensor {
    let count = dims.iter().product::<usize>();
    let one = |i: usize| ((i * 7919 + salt * 104_729) % 1009) as f32 / 500. - 1.;
    Tensor::from_vec((0..count).map(one).collect::<Vec<_>>(), dims, &CPU).unwrap()
}

struct Case {
    hidden: Var,
    weight: Var,
    targets: Tensor,
}

impl Case {
    fn new(dtype: DType) -> Self {
        let var =
            |dims: &[usize], salt| Var::from_tensor(&numbers(dims, salt).to_dtype(dtype).unwrap()).unwrap();
        let targets: Vec<i64> =
            (0..ROWS).map(|i| if i % 4 == 2 { -100 } else { (i * 5 % CLASSES) as i64 }).collect();
        Self {
            hidden: var(&[ROWS, WIDTH], 1),
            weight: var(&[CLASSES, WIDTH], 2),
            targets: Tensor::new(targets, &CPU).unwrap(),
        }
    }

    fn in_two(&self, loss: &CrossEntropy) -> Tensor {
        let logits = ops::linear(&self.hidden, &self.weight, None).unwrap();
        ops::cross_entropy(&logits, &self.targets, loss).unwrap()
    }

    fn in_one(&self, loss: &CrossEntropy, max_bytes: usize) -> Tensor {
        let options = LinearCrossEntropy { loss: loss.clone(), max_bytes };
        ops::linear_cross_entropy(&self.hidden, &self.weight, &self.targets, &options).unwrap()
    }

    /// The loss, made a number, and both gradients.
    fn results(&self, loss: Tensor) -> Vec<Vec<f64>> {
        let weights = numbers(loss.dims(), 3).to_dtype(loss.dtype()).unwrap();
        let scalar = ops::sum_all(&ops::mul(&loss, &weights).unwrap()).unwrap();
        let grads = backward(scalar).unwrap();
        let of = |var: &Var| values(grads.get(var).unwrap());
        vec![values(&loss), of(&self.hidden), of(&self.weight)]
    }
}

fn values(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn losses() -> Vec<CrossEntropy> {
    let of = |reduction| CrossEntropy { reduction, label_smoothing: 0.1, ..CrossEntropy::default() };
    vec![CrossEntropy::default(), of(Reduction::None), of(Reduction::Sum)]
}

/// The losses to the bit. The gradients within a rounding of the logits' own: the two ops multiply by the gradient of the loss before
/// they round the logits' gradient to their dtype, and the one op after it has added its products up.
fn same_to_a_rounding(case: &Case, got: Tensor, loss: &CrossEntropy) {
    let (got, want) = (case.results(got), case.results(case.in_two(loss)));
    let unit = match case.hidden.dtype() {
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        DType::F32 => 2f64.powi(-22),
        _ => 2f64.powi(-50),
    };
    assert_eq!(got[0], want[0], "{loss:?}");
    for (got, want) in got[1..].iter().flatten().zip(want[1..].iter().flatten()) {
        // Terms are at most 1, or the share of a row in a mean.
        assert!((got - want).abs() <= unit * (0.5 + want.abs()), "{loss:?}: {got} for {want}");
    }
}

#[test]
fn it_is_linear_and_cross_entropy_whole_and_in_parts() {
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
        let case = Case::new(dtype);
        for loss in losses() {
            // Parts of one row, of three, of four with three at the end, and of all.
            for rows in [0, 3, 4, ROWS] {
                let got = case.in_one(&loss, rows * CLASSES * dtype.size_in_bytes());
                same_to_a_rounding(&case, got, &loss);
            }
        }
    }
}

#[test]
fn small_probabilities_of_f16_have_gradients() {
    // A class of probability 2e-9, which f16 does not hold, and a mean over rows that makes it smaller still.
    let (hidden, weight) =
        (Tensor::full(1f32, (64, 1), &CPU).unwrap(), Tensor::new(&[[0f32], [20.]], &CPU).unwrap());
    let [hidden, weight] =
        [hidden, weight].map(|t| Var::from_tensor(&t.to_dtype(DType::F16).unwrap()).unwrap());
    let targets = Tensor::full(1i64, 64, &CPU).unwrap();
    let loss = ops::linear_cross_entropy(&hidden, &weight, &targets, &Default::default()).unwrap();
    let scaled = ops::mul(&loss, &Tensor::full(16_384f32, (), &CPU).unwrap()).unwrap();
    let grad = values(backward(scaled).unwrap().get(&weight).unwrap());
    let exact = 16_384. / (1. + 20f64.exp());
    assert!((grad[0] / exact - 1.).abs() < 0.01, "{grad:?} for {exact}");
}

#[test]
fn a_second_backward_over_the_graph_is_the_first() {
    let case = Case::new(DType::F32);
    let loss = case.in_one(&CrossEntropy::default(), usize::MAX);
    let grads = |grads: GradStore| [&case.hidden, &case.weight].map(|var| values(grads.get(var).unwrap()));
    let first = grads(backward(loss.clone()).unwrap());
    assert_eq!(grads(backward(loss).unwrap()), first);
}

#[test]
fn a_region_decides_as_for_the_two() {
    let case = Case::new(DType::F32);
    let region = Autocast::for_precision(Precision::Bf16Mixed, Accelerator::Cpu).unwrap().unwrap();
    for loss in losses() {
        let [one, two] = region.run(|| [case.in_one(&loss, usize::MAX), case.in_two(&loss)]);
        assert_eq!(one.dtype(), two.dtype());
        let (one, two) = (case.results(one), case.results(two));
        assert_eq!(one[0], two[0], "{loss:?}");
        for (one, two) in one[1..].iter().flatten().zip(two[1..].iter().flatten()) {
            assert!((one - two).abs() <= 2f64.powi(-7) * (0.5 + two.abs()), "{loss:?}: {one} for {two}");
        }
    }
}

#[test]
fn leading_dimensions_and_what_no_kernel_takes() {
    let case = Case::new(DType::F32);
    let (hidden, targets) =
        (numbers(&[2, 3, WIDTH], 4), Tensor::new(&[[0i64, 1, 2], [3, 4, 5]], &CPU).unwrap());
    let each = CrossEntropy { reduction: Reduction::None, ..CrossEntropy::default() };
    let weighed = CrossEntropy { weight: Some(numbers(&[CLASSES], 5).abs().unwrap()), ..each.clone() };
    for loss in [each, weighed] {
        let options = LinearCrossEntropy { loss: loss.clone(), ..Default::default() };
        let got = ops::linear_cross_entropy(&hidden, &case.weight, &targets, &options).unwrap();
        let logits = ops::linear(&hidden, &case.weight, None).unwrap().flatten_to(1).unwrap();
        let want = ops::cross_entropy(&logits, &targets.flatten_all().unwrap(), &loss).unwrap();
        assert_eq!(got.dims(), [2, 3]);
        assert_eq!(values(&got), values(&want));
    }
    let none = Tensor::zeros((0, WIDTH), DType::F32, &CPU).unwrap();
    let nothing = Tensor::zeros(0, DType::I64, &CPU).unwrap();
    let loss = ops::linear_cross_entropy(&none, &case.weight, &nothing, &Default::default()).unwrap();
    assert!(values(&loss)[0].is_nan());
}

#[test]
fn shapes_and_options_that_do_not_fit_are_errors() {
    let case = Case::new(DType::F32);
    let options = LinearCrossEntropy::default();
    let smooth = CrossEntropy { label_smoothing: 2., ..CrossEntropy::default() };
    let smooth = LinearCrossEntropy { loss: smooth, ..LinearCrossEntropy::default() };
    for (hidden, targets, options) in [
        (numbers(&[ROWS, WIDTH + 1], 1), case.targets.clone(), &options),
        (numbers(&[ROWS, WIDTH], 1), case.targets.narrow(0, 0, 3).unwrap(), &options),
        (numbers(&[ROWS, WIDTH], 1), Tensor::full(99i64, ROWS, &CPU).unwrap(), &options),
        (numbers(&[ROWS, WIDTH], 1), case.targets.clone(), &smooth),
    ] {
        let error = ops::linear_cross_entropy(&hidden, &case.weight, &targets, options).unwrap_err();
        assert!(matches!(error, autocast::Error::InvalidArgument { .. }), "{error}");
    }
}
