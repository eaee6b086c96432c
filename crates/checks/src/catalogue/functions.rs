//! The checks of [`super::check`] for functions that hold on to something (options, a shape that proptest drew), and a
//! bound per element for those that are linear in each input.

use autocast::Result;
use candle_core::{DType, Device, Tensor, Var};

use super::samples::Samples;
pub use super::samples::numbers as to_f64;

/// A function of tensors under test.
pub type Function<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// Values in (-1, 1), the same for the same seed.
pub fn values(dims: &[usize], seed: u64) -> Tensor {
    Samples::new(seed, &Device::Cpu).uniform(dims, -1., 1.)
}

/// The output, and the gradient of `Σ weights ∘ output` for each input.
pub fn value_and_gradients(f: Function, inputs: &[Tensor], weights: &Tensor) -> (Tensor, Vec<Tensor>) {
    let vars = inputs.iter().map(|t| Var::from_tensor(t).unwrap()).collect::<Vec<_>>();
    let tensors = vars.iter().map(|v| v.as_tensor().clone()).collect::<Vec<_>>();
    let out = f(&tensors).unwrap();
    let wide = if out.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let weights = weights.to_dtype(out.dtype()).unwrap().to_dtype(wide).unwrap();
    let loss = (out.to_dtype(wide).unwrap() * weights).unwrap().sum_all().unwrap();
    let grads = autocast::backward(loss).unwrap();
    let grads = vars
        .iter()
        .enumerate()
        .map(|(i, v)| {
            let grad = grads.get(v).unwrap_or_else(|| panic!("input {i} has no gradient")).clone();
            assert_eq!(grad.dims(), v.dims(), "gradient {i} has another shape");
            assert_eq!(grad.dtype(), v.dtype(), "gradient {i} has another dtype");
            grad
        })
        .collect();
    (out, grads)
}

/// Weights for the outputs, so that errors cannot cancel.
pub fn output_weights(f: Function, inputs: &[Tensor]) -> Tensor {
    values(f(inputs).unwrap().dims(), 77)
}

/// Holds the gradient of every input to central differences.
pub fn check_gradients(name: &str, f: Function, inputs: &[Tensor]) {
    let weights = output_weights(f, inputs);
    let (_, grads) = value_and_gradients(f, inputs, &weights);
    let loss = |inputs: &[Tensor]| -> f64 {
        to_f64(&f(inputs).unwrap()).iter().zip(to_f64(&weights)).map(|(o, w)| o * w).sum()
    };
    // With f = O(1): truncation h² ≈ 1e-10, rounding ulp / h ≈ 1e-11 per term.
    let step = 1e-5;
    for (i, grad) in grads.iter().enumerate() {
        let grad = to_f64(grad);
        let at = to_f64(&inputs[i]);
        for j in 0..at.len() {
            let moved = |by: f64| {
                let mut data = at.clone();
                data[j] += by;
                let mut all = inputs.to_vec();
                all[i] = Tensor::from_vec(data, inputs[i].dims(), &Device::Cpu).unwrap();
                loss(&all)
            };
            let slope = (moved(step) - moved(-step)) / (2. * step);
            let close = (grad[j] - slope).abs() <= 1e-7 * (1. + slope.abs());
            assert!(close, "{name}: d/d input {i}[{j}] is {}, differences say {slope}", grad[j]);
        }
    }
}

/// The unit roundoff of a dtype.
pub fn unit_roundoff(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 2f64.powi(-11),
        DType::BF16 => 2f64.powi(-8),
        DType::F32 => 2f64.powi(-24),
        other => panic!("{other:?}"),
    }
}

/// Holds values and gradients in `dtype` to those in f64 for a function that is linear in each input. The bound per
/// element is `roundings · u · Σ|terms|`, the sum of magnitudes being the function of the magnitudes; 2⁻²⁰ of it is
/// added for sums in f32, and f16's underflow.
pub fn check_linear_in(dtype: DType, roundings: f64, name: &str, f: Function, inputs: &[Tensor]) {
    let rounded = inputs.iter().map(|t| t.to_dtype(dtype).unwrap()).collect::<Vec<_>>();
    let exact = rounded.iter().map(|t| t.to_dtype(DType::F64).unwrap()).collect::<Vec<_>>();
    let sizes = exact.iter().map(|t| t.abs().unwrap()).collect::<Vec<_>>();
    let weights = output_weights(f, &exact).to_dtype(dtype).unwrap().to_dtype(DType::F64).unwrap();
    let (out, grads) = value_and_gradients(f, &rounded, &weights);
    assert_eq!(out.dtype(), dtype, "{name}: output dtype");
    let (exact_out, exact_grads) = value_and_gradients(f, &exact, &weights);
    let (out_sizes, grad_sizes) = value_and_gradients(f, &sizes, &weights.abs().unwrap());
    let relative = roundings * unit_roundoff(dtype) + 2f64.powi(-20);
    let compare = |what: &str, got: &Tensor, want: &Tensor, size: &Tensor| {
        for (i, ((got, want), size)) in to_f64(got).iter().zip(to_f64(want)).zip(to_f64(size)).enumerate() {
            let bound = relative * size + roundings * 2f64.powi(-24);
            assert!(
                (got - want).abs() <= bound,
                "{name} in {dtype:?}: {what}[{i}] is {got}, want {want} ± {bound}"
            );
        }
    };
    compare("output", &out, &exact_out, &out_sizes);
    for (i, ((got, want), size)) in grads.iter().zip(&exact_grads).zip(&grad_sizes).enumerate() {
        compare(&format!("gradient {i}"), got, want, size);
    }
}

/// [`check_gradients`], and [`check_linear_in`] for every smaller float.
pub fn check_linear(name: &str, roundings: f64, f: Function, inputs: &[Tensor]) {
    check_gradients(name, f, inputs);
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        check_linear_in(dtype, roundings, name, f, inputs);
    }
}

/// Holds values and gradients in every smaller float to those in f64 within `factor · u · max(1, largest magnitude)`,
/// with 2⁻¹⁹ of it for sums in f32.
pub fn check_close(name: &str, factor: f64, f: Function, inputs: &[Tensor]) {
    check_gradients(name, f, inputs);
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let rounded = inputs.iter().map(|t| t.to_dtype(dtype).unwrap()).collect::<Vec<_>>();
        let exact = rounded.iter().map(|t| t.to_dtype(DType::F64).unwrap()).collect::<Vec<_>>();
        let weights = output_weights(f, &exact).to_dtype(dtype).unwrap().to_dtype(DType::F64).unwrap();
        let (out, grads) = value_and_gradients(f, &rounded, &weights);
        let (exact_out, exact_grads) = value_and_gradients(f, &exact, &weights);
        assert_eq!(out.dtype(), dtype, "{name}: output dtype");
        let pairs = std::iter::once((&out, &exact_out)).chain(grads.iter().zip(&exact_grads));
        for (which, (got, want)) in pairs.enumerate() {
            let want = to_f64(want);
            let largest = want.iter().fold(1f64, |m, v| m.max(v.abs()));
            let bound = (factor * unit_roundoff(dtype) + 2f64.powi(-19)) * largest;
            for (got, want) in to_f64(got).iter().zip(&want) {
                assert!(
                    (got - want).abs() <= bound,
                    "{name} in {dtype:?}: result {which}: {got}, want {want} ± {bound}"
                );
            }
        }
    }
}
