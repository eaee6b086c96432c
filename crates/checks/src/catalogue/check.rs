//! Gradients against central differences in f64, and every dtype against f64.

use candle_core::{DType, Device, Tensor, Var};

use super::OpCase;
use super::samples::{Samples, numbers};

const SEEDS: std::ops::Range<u64> = 0..3;

/// The value and the gradient of every float input, for the gradient `seed` of the value.
fn differentiate(case: &OpCase, inputs: &[Tensor], samples: &mut Samples) -> (Tensor, Vec<Option<Tensor>>) {
    let vars: Vec<Option<Var>> =
        inputs.iter().map(|t| t.dtype().is_float().then(|| Var::from_tensor(t).unwrap())).collect();
    let args: Vec<Tensor> = std::iter::zip(inputs, &vars)
        .map(|(t, var)| var.as_ref().map_or_else(|| t.clone(), |var| var.as_tensor().clone()))
        .collect();
    let value = (case.run)(&args).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let seed = samples.seed_gradient(value.dims());
    let loss = (value.to_dtype(DType::F64).unwrap() * seed).unwrap().sum_all().unwrap();
    let grads = autocast::backward(loss).unwrap_or_else(|e| panic!("{}: backward: {e}", case.name));
    let gradient = |var: &Var| match grads.get(var.as_tensor()) {
        Some(grad) => grad.clone(),
        None => panic!("{}: a tracked input of shape {:?} has no gradient", case.name, var.dims()),
    };
    (value.detach(), vars.iter().map(|var| var.as_ref().map(gradient)).collect())
}

/// Every gradient of `case` against the central difference of its value, in f64.
///
/// The difference of step 1e-5 is off by `h²·f‴/6`, and by rounding of `2⁻⁵²·f/h`: both about 1e-10 for values and
/// derivatives of order 1. The bound leaves three digits for steeper ones.
pub fn check_gradients(case: &OpCase, device: &Device) {
    for seed in SEEDS {
        let inputs = (case.inputs)(&mut Samples::new(seed, device));
        let (_, grads) = differentiate(case, &inputs, &mut Samples::new(seed + 100, device));
        let loss = |inputs: &[Tensor]| -> f64 {
            let value = (case.run)(inputs).unwrap();
            let seed = Samples::new(seed + 100, device).seed_gradient(value.dims());
            std::iter::zip(numbers(&value), numbers(&seed)).map(|(v, s)| v * s).sum()
        };
        for (at, grad) in grads.iter().enumerate() {
            let Some(grad) = grad else { continue };
            let values = numbers(&inputs[at]);
            assert_eq!(grad.dims(), inputs[at].dims(), "{}: shape of gradient {at}", case.name);
            for (i, got) in numbers(grad).into_iter().enumerate() {
                let shifted = |by: f64| {
                    let mut values = values.clone();
                    values[i] += by;
                    let mut inputs = inputs.clone();
                    inputs[at] = Tensor::from_vec(values, inputs[at].dims(), device).unwrap();
                    loss(&inputs)
                };
                let h = 1e-5;
                let want = (shifted(h) - shifted(-h)) / (2. * h);
                let bound = 1e-7 * (1. + want.abs());
                assert!(
                    (got - want).abs() <= bound,
                    "{}, seed {seed}: gradient {at}[{i}] is {got}, differences give {want}",
                    case.name
                );
            }
        }
    }
}

/// The value and gradients of `case` in `dtype` on `device` against those in f64 on the CPU at the same (rounded) inputs.
///
/// An op that computes in f32 and rounds once is off by half an ULP of its result, plus f32 rounding relative to the
/// largest terms that were summed, of which there are fewer than 64 in any case. Each further rounding on the way is
/// relative to the largest entry.
pub fn check_precision(case: &OpCase, dtype: DType, device: &Device) {
    for seed in SEEDS {
        let exact = (case.inputs)(&mut Samples::new(seed, &Device::Cpu));
        let to =
            |t: &Tensor, dtype| if t.dtype().is_float() { t.to_dtype(dtype).unwrap() } else { t.clone() };
        let rounded: Vec<Tensor> = exact.iter().map(|t| to(t, dtype)).collect();
        let on_device: Vec<Tensor> = rounded.iter().map(|t| t.to_device(device).unwrap()).collect();
        let wide: Vec<Tensor> = rounded.iter().map(|t| to(t, DType::F64)).collect();
        let (value, grads) = differentiate(case, &on_device, &mut Samples::new(seed + 100, device));
        let (want_value, want_grads) =
            differentiate(case, &wide, &mut Samples::new(seed + 100, &Device::Cpu));
        assert_eq!(value.dtype(), dtype, "{}: dtype of the value", case.name);
        compare(case, dtype, "value", &value, &want_value);
        for (got, want) in std::iter::zip(&grads, &want_grads) {
            if let (Some(got), Some(want)) = (got, want) {
                assert_eq!(got.dtype(), dtype, "{}: dtype of a gradient", case.name);
                compare(case, dtype, "gradient", got, want);
            }
        }
    }
}

fn compare(case: &OpCase, dtype: DType, what: &str, got: &Tensor, want: &Tensor) {
    let (epsilon, min_subnormal) = match dtype {
        DType::F16 => (f64::powi(2., -10), f64::powi(2., -24)),
        DType::BF16 => (f64::powi(2., -7), f64::powi(2., -133)),
        _ => (f64::powi(2., -23), f64::powi(2., -149)),
    };
    let (got, want) = (numbers(got), numbers(want));
    let largest = want.iter().fold(0f64, |m, w| m.max(w.abs()));
    let accumulated = 64. * f64::powi(2., -23) * largest.max(1.);
    for (i, (&g, &w)) in std::iter::zip(&got, &want).enumerate() {
        let own = epsilon / 2. * w.abs();
        let before = f64::from(case.roundings - 1) * epsilon * largest.max(1.);
        let bound = own + before + accumulated + min_subnormal;
        assert_eq!(
            g.is_finite(),
            w.is_finite(),
            "{} {dtype:?}: {what}[{i}] is {g}, f64 gives {w}",
            case.name
        );
        assert!(
            !w.is_finite() || (g - w).abs() <= bound,
            "{} {dtype:?}: {what}[{i}] is {g}, f64 gives {w}, bound {bound:e}",
            case.name
        );
    }
}

/// Both checks of every case, in every dtype.
pub fn check_all(cases: &[OpCase], device: &Device) {
    for case in cases {
        check_gradients(case, device);
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            check_precision(case, dtype, device);
        }
    }
}
