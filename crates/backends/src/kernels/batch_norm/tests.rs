//! The CPU's path against the formula, one element at a time, and its gradients against differences of that.

use candle_core::{DType, Device, Tensor};

use super::*;
use crate::bridge::Call;

/// Numbers that are not symmetric, between -2 and 2.
fn numbers(count: usize, seed: usize) -> Vec<f64> {
    (0..count).map(|i| ((i * 37 + seed * 101) % 89) as f64 / 22. - 2.).collect()
}

/// Everything that a batch norm reads.
#[derive(Clone)]
struct Case {
    norm: Norm,
    x: Vec<f64>,
    weight: Vec<f64>,
    bias: Vec<f64>,
    plus: Option<Vec<f64>>,
}

impl Case {
    fn new(dims: Dims, centre: Centre, then: Then, adds: bool) -> Self {
        let (count, channels) = (dims.count(), dims.channels);
        let norm = Norm { dims, centre, then, eps: 1e-3 };
        let plus = adds.then(|| numbers(count, 4));
        Self { norm, x: numbers(count, 1), weight: numbers(channels, 2), bias: numbers(channels, 3), plus }
    }

    fn channel(&self, i: usize) -> usize {
        i / self.norm.dims.inner % self.norm.dims.channels
    }

    /// Mean and mean square deviation of a channel.
    fn moments(&self, channel: usize) -> (f64, f64) {
        let of: Vec<f64> =
            (0..self.x.len()).filter(|&i| self.channel(i) == channel).map(|i| self.x[i]).collect();
        let mean = of.iter().sum::<f64>() / of.len() as f64;
        let centre = if self.norm.centre == Centre::Mean { mean } else { 0. };
        (mean, of.iter().map(|x| (x - centre).powi(2)).sum::<f64>() / of.len() as f64)
    }

    fn values(&self) -> Vec<f64> {
        let moments: Vec<(f64, f64)> = (0..self.norm.dims.channels).map(|c| self.moments(c)).collect();
        let value = |(i, x): (usize, &f64)| {
            let c = self.channel(i);
            let (mean, var) = moments[c];
            let centre = if self.norm.centre == Centre::Mean { mean } else { 0. };
            let y = (x - centre) / (var + self.norm.eps).sqrt() * self.weight[c] + self.bias[c];
            let y = y + self.plus.as_ref().map_or(0., |plus| plus[i]);
            if self.norm.then == Then::Relu { y.max(0.) } else { y }
        };
        self.x.iter().enumerate().map(value).collect()
    }

    /// How `Σ grad · value` moves with one number of what `of` gives.
    fn slope(&self, grad: &[f64], of: fn(&mut Self) -> &mut Vec<f64>, index: usize) -> f64 {
        let total = |by: f64| {
            let mut moved = self.clone();
            of(&mut moved)[index] += by;
            moved.values().iter().zip(grad).map(|(y, g)| y * g).sum::<f64>()
        };
        (total(1e-6) - total(-1e-6)) / 2e-6
    }
}

fn tensor(numbers: &[f64], dtype: DType) -> Tensor {
    Tensor::new(numbers, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn read(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[track_caller]
fn check_close(made: &[f64], expected: &[f64], bound: f64, what: &str) {
    assert_eq!(made.len(), expected.len(), "{what}");
    for (i, (made, expected)) in made.iter().zip(expected).enumerate() {
        assert!(
            (made - expected).abs() <= bound * expected.abs().max(1.),
            "{what} {i}: {made} for {expected}"
        );
    }
}

fn ran<T>(call: crate::Result<Call<T>>) -> T {
    match call.unwrap() {
        Call::Ran(made) => made,
        Call::Composed(why) => panic!("{why:?}"),
    }
}

fn check(case: &Case) {
    let norm = case.norm;
    let t = |numbers: &[f64]| tensor(numbers, DType::F64);
    let (x, weight, bias, plus) =
        (t(&case.x), t(&case.weight), t(&case.bias), case.plus.as_ref().map(|p| t(p)));
    let made = ran(value_of(norm, &x, [Some(&weight), Some(&bias), plus.as_ref()]));
    check_close(&read(&made.y), &case.values(), 1e-12, "value");
    let count = (norm.dims.outer * norm.dims.inner) as f64;
    for channel in 0..norm.dims.channels {
        let (mean, var) = case.moments(channel);
        check_close(&[read(&made.mean)[channel]], &[mean], 1e-12, "mean");
        check_close(&[read(&made.var)[channel]], &[var * count / (count - 1.)], 1e-12, "variance");
    }

    let grad = numbers(case.x.len(), 5);
    let wanted = Wanted { x: true, plus: plus.is_some(), weight: true, bias: true };
    let beside = plus.as_ref().map(|_| &made.y);
    let others = [Some(&weight), Some(&bias), beside];
    let grads = ran(gradients_of(norm, &t(&grad), &x, others, &made.statistics, wanted));
    let slopes = |of: fn(&mut Case) -> &mut Vec<f64>, count: usize| -> Vec<f64> {
        (0..count).map(|i| case.slope(&grad, of, i)).collect()
    };
    let channels = norm.dims.channels;
    check_close(&read(&grads.x.unwrap()), &slopes(|case| &mut case.x, grad.len()), 1e-6, "gradient of x");
    check_close(
        &read(&grads.weight.unwrap()),
        &slopes(|case| &mut case.weight, channels),
        1e-6,
        "of the weight",
    );
    check_close(&read(&grads.bias.unwrap()), &slopes(|case| &mut case.bias, channels), 1e-6, "of the bias");
    if let Some(passed) = grads.plus {
        let expected: Vec<f64> =
            case.values().iter().zip(&grad).map(|(&y, &g)| if y > 0. { g } else { 0. }).collect();
        check_close(&read(&passed), &expected, 0., "what passed");
    }
}

#[test]
fn values_and_gradients_are_those_of_the_formula() {
    for dims in [
        Dims { outer: 3, channels: 2, inner: 5 },
        Dims { outer: 7, channels: 3, inner: 1 },
        Dims { outer: 1, channels: 1, inner: 700 },
    ] {
        for centre in [Centre::Mean, Centre::Zero] {
            check(&Case::new(dims, centre, Then::Nothing, false));
            check(&Case::new(dims, centre, Then::Relu, false));
            check(&Case::new(dims, centre, Then::Relu, true));
        }
    }
}

#[test]
fn narrow_numbers_are_rounded_once_and_a_relu_looks_at_what_was_rounded() {
    let case = Case::new(Dims { outer: 2, channels: 2, inner: 600 }, Centre::Mean, Then::Relu, false);
    for (dtype, unit) in
        [(DType::F32, 2f64.powi(-23)), (DType::BF16, 2f64.powi(-8)), (DType::F16, 2f64.powi(-11))]
    {
        let x = tensor(&case.x, dtype);
        let rounded = Case { x: read(&x), weight: vec![1.; 2], bias: vec![0.; 2], ..case.clone() };
        let made = ran(value_of(case.norm, &x, [None; 3]));
        let bound = unit + 16. * 2f64.powi(-24);
        check_close(&read(&made.y), &rounded.values(), bound, &format!("{dtype:?}"));
    }
    // Deviations of which the norm makes less than half of the least f16 round to 0, and nothing passes.
    let norm = Norm { dims: Dims { outer: 2, channels: 1, inner: 1 }, eps: 1e12, ..case.norm };
    let (x, dy) = (tensor(&[0.01, 0.03], DType::F16), tensor(&[1., 1.], DType::F16));
    let made = ran(value_of(norm, &x, [None; 3]));
    assert_eq!(read(&made.y), [0., 0.]);
    let wanted = Wanted { bias: true, ..Wanted::default() };
    let grads = ran(gradients_of(norm, &dy, &x, [None; 3], &made.statistics, wanted));
    assert_eq!(read(&grads.bias.unwrap()), [0.]);
}

#[test]
fn a_channel_with_a_nan_has_no_finite_value_and_the_others_are_as_they_were() {
    let case = Case::new(Dims { outer: 2, channels: 2, inner: 4 }, Centre::Mean, Then::Relu, false);
    let mut bad = case.clone();
    bad.x[9] = f64::NAN;
    let values = |case: &Case| read(&ran(value_of(case.norm, &tensor(&case.x, DType::F32), [None; 3])).y);
    for (i, (good, bad)) in values(&case).into_iter().zip(values(&bad)).enumerate() {
        assert!(if case.channel(i) == 0 { bad.is_nan() } else { bad == good }, "{i}: {bad} for {good}");
    }
}

#[test]
fn a_running_statistic_moves_unless_the_batch_is_not_finite() {
    let t = |numbers: &[f64]| tensor(numbers, DType::F32);
    let moved = ran(moved_of(0.25, &t(&[4., 4., 4.]), &t(&[8., f64::NAN, 8.]), &t(&[1., 1., f64::INFINITY])));
    assert_eq!(read(&moved), [5., 4., 4.]);
    let given = ran(given_of(1., &t(&[3., 5.]), &t(&[3., 15.])));
    assert_eq!(read(&given), [3., 5., 0.5, 0.25]);
}
