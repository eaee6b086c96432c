//! How far each pointwise function and its gradient may be from the exact value, in ULPs of the dtype, over its domain:
//! f32 on sweeps over all bit patterns against f64, f64 against values of 120 digits. `docs/numerics.md` has the same numbers.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::HashMap;

use autocast::{backward, ops};
use candle_core::{DType, Device, Tensor, Var};
use checks::catalogue::pointwise::{FUNCTIONS, Op, sweep};
use precision_types::ulp_distance;

const CPU: Device = Device::Cpu;

fn parse(bits: &str) -> f64 {
    f64::from_bits(u64::from_str_radix(bits, 16).unwrap())
}

fn recorded() -> HashMap<String, Vec<Vec<String>>> {
    serde_json::from_str(include_str!("../../data/pointwise.json")).unwrap()
}

/// Value and gradient of each of `x`.
fn both(op: Op, x: Tensor) -> (Tensor, Tensor) {
    let x = Var::from_tensor(&x).unwrap();
    let y = op(&x).unwrap();
    let grads = backward(ops::sum_all(&y).unwrap()).unwrap();
    (y.detach(), grads.get(&x).unwrap().clone())
}

/// `None` where there is no distance: one of the two is NaN or infinite, and the other is not.
fn off(got: f64, want: f64) -> Option<u64> {
    ulp_distance(got, want)
}

#[test]
fn f64_is_within_its_bounds() {
    let recorded = recorded();
    for &(name, op, value_bound, gradient_bound) in FUNCTIONS {
        let rows = &recorded[name];
        let column = |at: usize| rows.iter().map(|row| parse(&row[at])).collect::<Vec<f64>>();
        let x = column(0);
        let (y, dx) = both(op, Tensor::new(x.as_slice(), &CPU).unwrap());
        let check = |what: &str, got: Vec<f64>, want: Vec<f64>, bound: u64| {
            let worst =
                got.iter().zip(&want).zip(&x).map(|((&got, &want), &x)| (off(got, want), x, got, want));
            let (distance, x, got, want) = worst.max_by_key(|(d, ..)| d.unwrap_or(u64::MAX)).unwrap();
            let within = distance.is_some_and(|distance| distance <= bound);
            assert!(
                within,
                "{what} of {name} at {x:e}: {got:e} for {want:e}, {distance:?} ULP, bound {bound}"
            );
        };
        check("value", y.to_vec1().unwrap(), column(1), value_bound);
        check("gradient", dx.to_vec1().unwrap(), column(2), gradient_bound);
    }
}

/// Functions that a CPU computes in f32 for narrower elements than f64, where it multiplies and adds in one rounding.
const IN_F32: [&str; 4] = ["gelu", "gelu_tanh", "sigmoid", "silu"];

/// Whether what is computed in f32 is as near to the f64 function, rounded, as `docs/numerics.md` says: a value within 2 ULP, or 1 of 16
/// bits, and a gradient within 5 ULP of its two terms, which are below 2.5 together, and a rounding.
fn near(what: &str, dtype: DType, got: f64, want: f64) -> bool {
    let digits = match dtype {
        DType::F32 => 23,
        DType::F16 => 10,
        _ => 7,
    };
    let ulp = 2f64.powi(-digits) * want.abs();
    // A subnormal number's.
    let least = 2f64.powi(if dtype == DType::F16 { -24 } else { -126 - digits });
    let ulps = if dtype == DType::F32 { 2. } else { 1. };
    match what {
        "value" => (got - want).abs() <= ulps * ulp.max(least),
        _ => (got - want).abs() <= 5. * 2.5 * 2f64.powi(-23) + ulp.max(least),
    }
}

/// In f32 every other function is computed in f64 and rounded once, so that the f64 function, rounded, is what comes out: within
/// one ULP of the exact value wherever f64 is within its own bound.
#[test]
fn f32_and_16_bits_are_the_f64_function_rounded_once() {
    let x = sweep();
    for &(name, op, ..) in FUNCTIONS {
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let narrow = Tensor::new(x.as_slice(), &CPU).unwrap().to_dtype(dtype).unwrap();
            let (y, dx) = both(op, narrow.clone());
            let (wide_y, wide_dx) = both(op, narrow.to_dtype(DType::F64).unwrap());
            for (what, got, want) in [("value", y, wide_y), ("gradient", dx, wide_dx)] {
                assert_eq!(got.dtype(), dtype);
                let numbers = |t: &Tensor| t.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
                let want = autocast::cast_to(&want, dtype).unwrap();
                for ((got, want), x) in numbers(&got).into_iter().zip(numbers(&want)).zip(numbers(&narrow)) {
                    let same = got == want || (got.is_nan() && want.is_nan());
                    let same = same || (IN_F32.contains(&name) && near(what, dtype, got, want));
                    assert!(same, "{what} of {name} at {x:e} in {dtype:?}: {got:e} for {want:e}");
                }
            }
        }
    }
}

/// Against the standard library, which is not what computes the functions that are made of others here. What is computed in f32 is
/// within two.
#[test]
fn f32_is_within_one_ulp_over_the_whole_domain() {
    type Exact = (&'static str, fn(f64) -> f64);
    let exact: &[Exact] = &[
        ("exp", f64::exp),
        ("log", f64::ln),
        ("log2", f64::log2),
        ("log10", f64::log10),
        ("tanh", f64::tanh),
        ("sigmoid", |x| if x > 0. { 1. / (1. + (-x).exp()) } else { x.exp() / (1. + x.exp()) }),
        ("softplus", |x| x.max(0.) + (-x.abs()).exp().ln_1p()),
        ("silu", |x| if x > 0. { x / (1. + (-x).exp()) } else { x * (x.exp() / (1. + x.exp())) }),
        ("gelu", |x| if x > 39. { x } else { 0.5 * x * libm::erfc(-x / 2f64.sqrt()) }),
        ("mish", |x| {
            if x > 30. {
                return x;
            }
            let n = x.exp() * (x.exp() + 2.);
            x * (n / (n + 2.))
        }),
    ];
    let x: Vec<f32> = sweep().into_iter().filter(|x| x.is_finite()).collect();
    for &(name, exact) in exact {
        let op = FUNCTIONS.iter().find(|function| function.0 == name).unwrap().1;
        let y = op(&Tensor::new(x.as_slice(), &CPU).unwrap()).unwrap().to_vec1::<f32>().unwrap();
        for (&x, y) in x.iter().zip(y) {
            let want = exact(f64::from(x)) as f32;
            let bound = if IN_F32.contains(&name) { 2 } else { 1 };
            let near = ulp_distance(y, want).is_some_and(|distance| distance <= bound);
            assert!(near, "{name} at {x:e}: {y:e} for {want:e}");
        }
    }
}

#[test]
fn powers_are_cs_in_value_and_right_in_gradient() {
    for row in &recorded()["pow"] {
        let [b, e, y, db, de] = [0, 1, 2, 3, 4].map(|at| parse(&row[at]));
        let [base, exponent] = [b, e].map(|v| Var::new(&[v], &CPU).unwrap());
        let value = ops::pow(&base, &exponent).unwrap();
        let got = value.to_vec1::<f64>().unwrap()[0];
        assert!(off(got, y).unwrap() <= 1, "{b:e} ^ {e:e}: {got:e} for {y:e}");
        let grads = backward(ops::sum_all(&value).unwrap()).unwrap();
        let grad = |var: &Var| grads.get(var).unwrap().to_vec1::<f64>().unwrap()[0];
        assert!(off(grad(&base), db).unwrap() <= 4, "d/db {b:e} ^ {e:e}: {:e} for {db:e}", grad(&base));
        if b > 0. {
            assert!(
                off(grad(&exponent), de).unwrap() <= 4,
                "d/de {b:e} ^ {e:e}: {:e} for {de:e}",
                grad(&exponent)
            );
        }
    }
    let power = |b: f64, e: f64| {
        let of = |v: f64| Tensor::new(&[v], &CPU).unwrap();
        ops::pow(&of(b), &of(e)).unwrap().to_vec1::<f64>().unwrap()[0]
    };
    let inf = f64::INFINITY;
    for (b, e, want) in [
        (3., 2., 9.),
        (10., 15., 1e15),
        (-2., 3., -8.),
        (0., 0., 1.),
        (f64::NAN, 0., 1.),
        (1., f64::NAN, 1.),
        (0., -1., inf),
        (-0., -1., -inf),
        (-0., 3., -0.),
        (inf, -1., 0.),
        (-inf, 3., -inf),
        (0.5, inf, 0.),
        (-1., inf, 1.),
    ] {
        assert_eq!(power(b, e).to_bits(), want.to_bits(), "{b} ^ {e}");
        assert_eq!(
            ops::powf(&Tensor::new(&[b], &CPU).unwrap(), e).unwrap().to_vec1::<f64>().unwrap()[0].to_bits(),
            want.to_bits()
        );
    }
    assert!(power(-2., 0.5).is_nan());
    let f32s =
        ops::pow(&Tensor::new(&[10f32, 2.], &CPU).unwrap(), &Tensor::new(&[3f32, 100.], &CPU).unwrap())
            .unwrap();
    assert_eq!(f32s.to_vec1::<f32>().unwrap(), [1000., 2f32.powi(100)]);
}

/// The gradient of a power at its corners, as PyTorch has them.
#[test]
fn gradients_of_powers_at_0() {
    let at = |b: f64, e: f64| {
        let [b, e] = [b, e].map(|v| Var::new(&[v], &CPU).unwrap());
        let grads = backward(ops::sum_all(&ops::pow(&b, &e).unwrap()).unwrap()).unwrap();
        [&b, &e].map(|var| grads.get(var).unwrap().to_vec1::<f64>().unwrap()[0])
    };
    assert_eq!(at(0., 0.), [0., 0.]);
    assert_eq!(at(0., 1.), [1., 0.]);
    assert_eq!(at(0., 2.), [0., 0.]);
    assert_eq!(at(5., 0.), [0., 5f64.ln()]);
    assert_eq!(at(-3., 2.)[0], -6.);
}

/// Where a function or its slope is at its end: signs of zero, infinities, NaN, and no `0 · inf`.
#[test]
fn edges() {
    let inf = f64::INFINITY;
    let cases: &[(&str, Op, f64, f64, f64)] = &[
        ("gelu", ops::gelu, -1e300, -0., 0.),
        ("gelu", ops::gelu, 1e300, 1e300, 1.),
        ("gelu", ops::gelu, inf, inf, 1.),
        ("gelu_tanh", ops::gelu_tanh, -inf, -0., 0.),
        ("gelu_tanh", ops::gelu_tanh, inf, inf, 1.),
        ("silu", ops::silu, -1e308, -0., 0.),
        ("silu", ops::silu, inf, inf, 1.),
        ("mish", ops::mish, -1e308, -0., 0.),
        ("mish", ops::mish, 1e308, 1e308, 1.),
        ("softplus", ops::softplus, 1e308, 1e308, 1.),
        ("softplus", ops::softplus, -inf, 0., 0.),
        ("sigmoid", ops::sigmoid, -inf, 0., 0.),
        ("tanh", ops::tanh, inf, 1., 0.),
        ("elu", |x| ops::elu(x, 1.), inf, inf, 1.),
        ("elu", |x| ops::elu(x, 1.), -inf, -1., 0.),
        ("atan", ops::atan, -inf, -std::f64::consts::FRAC_PI_2, 0.),
        ("erf", ops::erf, inf, 1., 0.),
        ("relu", ops::relu, -inf, 0., 0.),
        ("hardswish", ops::hardswish, -inf, 0., 0.),
        ("leaky_relu", |x| ops::leaky_relu(x, 0.), -5., -0., 0.),
    ];
    for &(name, op, x, want, slope) in cases {
        let (y, dx) = both(op, Tensor::new(&[x], &CPU).unwrap());
        let (y, dx) = (y.to_vec1::<f64>().unwrap()[0], dx.to_vec1::<f64>().unwrap()[0]);
        assert!(y == want, "{name}({x}) is {y}, not {want}");
        assert!(dx == slope, "{name}'({x}) is {dx}, not {slope}");
    }
    for &(name, op, ..) in FUNCTIONS {
        let y = op(&Tensor::new(&[f64::NAN], &CPU).unwrap()).unwrap().to_vec1::<f64>().unwrap()[0];
        assert!(y.is_nan(), "{name} of NaN is {y}");
        let nothing = op(&Tensor::zeros((0, 3), DType::F32, &CPU).unwrap()).unwrap();
        assert_eq!(nothing.dims(), [0, 3], "{name}");
    }
    for op in [ops::relu as Op, |x| ops::clamp(x, -1., 1.), |x| ops::hardtanh(x, -1., 1.), ops::hardsigmoid] {
        assert!(op(&Tensor::new(&[f32::NAN], &CPU).unwrap()).unwrap().to_vec1::<f32>().unwrap()[0].is_nan());
    }
}
