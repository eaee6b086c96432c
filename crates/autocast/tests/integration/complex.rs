//! Complex arithmetic: values where naive formulas fail, gradients against central differences, dtypes, and saving.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI};

use autocast::{Autocast, ComplexTensor, Error, Result, backward, no_grad};
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Init, VarBuilder, VarMap};
use precision_types::{Accelerator, ComplexDType};
use proptest::prelude::*;

type Pair = (f64, f64);

fn complex(values: &[Pair]) -> ComplexTensor {
    let (re, im): (Vec<f64>, Vec<f64>) = values.iter().copied().unzip();
    ComplexTensor::new(Tensor::new(re, &Device::Cpu).unwrap(), Tensor::new(im, &Device::Cpu).unwrap())
        .unwrap()
}

fn reals(t: &Tensor) -> Vec<f64> {
    t.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

fn pairs(z: &ComplexTensor) -> Vec<Pair> {
    reals(z.real()).into_iter().zip(reals(z.imag())).collect()
}

/// Equal to a few ULP, and exactly for infinities and zeros' signs.
fn assert_close(got: f64, wanted: f64, what: &str) {
    let same = got.to_bits() == wanted.to_bits() || (got.is_nan() && wanted.is_nan());
    let near = wanted.is_normal() && (got - wanted).abs() <= 8.0 * f64::EPSILON * wanted.abs();
    assert!(same || near, "{what}: wanted {wanted:e}, got {got:e}");
}

/// Points on and between the axes, of extreme and ordinary size.
const POINTS: &[Pair] = &[
    (3.0, 4.0),
    (-3.0, 4.0),
    (-3.0, -4.0),
    (3.0, -4.0),
    (1.0, 0.0),
    (-1.0, 0.0),
    (-1.0, -0.0),
    (0.0, 2.0),
    (0.0, -2.0),
    (0.0, 0.0),
    (1e200, -1e200),
    (1e-200, 1e-200),
    (1e300, 1e-300),
    (-1e-300, 1.0),
    (5e-324, 0.0),
    (1.0, 1e-9),
    (-1.0, 1e-9),
    (f64::INFINITY, 1.0),
    (1.0, f64::NEG_INFINITY),
    (f64::INFINITY, f64::INFINITY),
    (f64::NAN, 1.0),
];

#[test]
fn the_modulus_is_hypot_and_the_angle_is_atan2() {
    let z = complex(POINTS);
    let (abs, angle) = (reals(&z.abs().unwrap()), reals(&z.angle().unwrap()));
    for (i, &(re, im)) in POINTS.iter().enumerate() {
        assert_close(abs[i], re.hypot(im), &format!("|{re:e} + {im:e}i|"));
        assert_close(angle[i], im.atan2(re), &format!("the angle of {re:e} + {im:e}i"));
    }
}

#[test]
fn the_gradients_of_modulus_and_angle_at_zero_are_zero() {
    let (re, im) =
        (Var::new(&[0f64, 0.0], &Device::Cpu).unwrap(), Var::new(&[0f64, -0.0], &Device::Cpu).unwrap());
    let z = ComplexTensor::new(re.as_tensor().clone(), im.as_tensor().clone()).unwrap();
    for real in [z.abs().unwrap(), z.angle().unwrap()] {
        let grads = backward(real.sum_all().unwrap()).unwrap();
        for part in [&re, &im] {
            assert!(reals(grads.get(part).unwrap()).iter().all(|&g| g == 0.0));
        }
    }
}

#[test]
fn quotients_neither_overflow_nor_vanish() {
    let cases: &[(Pair, Pair, Pair)] = &[
        ((6.0, 8.0), (3.0, 4.0), (2.0, 0.0)),
        ((1e300, 1e300), (1e300, 1e300), (1.0, 0.0)),
        ((1e-300, 0.0), (1e-300, 1e-300), (0.5, -0.5)),
        ((1.0, 1.0), (1e-200, 0.0), (1e200, 1e200)),
        ((0.0, 0.0), (1e-300, 2.0), (0.0, 0.0)),
    ];
    for (a, b, wanted) in cases {
        let got = pairs(&complex(&[*a]).div(&complex(&[*b])).unwrap())[0];
        assert_close(got.0, wanted.0, &format!("{a:?} / {b:?}"));
        assert_close(got.1, wanted.1, &format!("{a:?} / {b:?}"));
    }
    let by_zero = pairs(&complex(&[(1.0, 0.0)]).div(&complex(&[(0.0, 0.0)])).unwrap())[0];
    assert!(!by_zero.0.is_finite() && !by_zero.1.is_finite(), "{by_zero:?}");
}

#[test]
fn the_exponential_of_a_large_real_part_stays_finite_where_it_is() {
    let got = pairs(&complex(&[(0.0, PI), (710.0, 1.57), (-750.0, 0.0), (800.0, 0.0)]).exp().unwrap());
    assert_close(got[0].0, -1.0, "e^(iπ)");
    // e^710 is infinite, e^710·cos 1.57 is not.
    let wanted = 355f64.exp() * 1.57f64.cos() * 355f64.exp();
    assert!(wanted.is_finite());
    assert_close(got[1].0, wanted, "e^(710 + 1.57i)");
    assert_eq!(got[3], (f64::INFINITY, 0.0));
    assert!(got[2].0 >= 0.0 && got[2].0 < 1e-300);
}

#[test]
fn products_and_sums() {
    let (a, b) = (complex(&[(1.0, 2.0), (3.0, -1.0)]), complex(&[(2.0, -1.0), (0.5, 4.0)]));
    assert_eq!(pairs(&a.add(&b).unwrap()), [(3.0, 1.0), (3.5, 3.0)]);
    assert_eq!(pairs(&a.sub(&b).unwrap()), [(-1.0, 3.0), (2.5, -5.0)]);
    assert_eq!(pairs(&a.mul(&b).unwrap()), [(4.0, 3.0), (5.5, 11.5)]);
    assert_eq!(pairs(&a.conj().unwrap()), [(1.0, -2.0), (3.0, 1.0)]);
    assert_eq!(pairs(&a.neg().unwrap()), [(-1.0, -2.0), (-3.0, 1.0)]);
    assert_eq!(pairs(&a.mul_scalar(-2.0).unwrap()), [(-2.0, -4.0), (-6.0, 2.0)]);
    assert_eq!(pairs(&a.sum_all().unwrap()), [(4.0, 1.0)]);
    // [1+2i 3−i] · [2−i; 0.5+4i] = (4+3i) + (5.5+11.5i)
    let product =
        a.reshape((1, 2)).unwrap().matmul(&b.reshape((1, 2)).unwrap().transpose(0, 1).unwrap()).unwrap();
    assert_eq!((product.dims(), pairs(&product)), (&[1, 1][..], vec![(9.5, 14.5)]));
}

#[test]
fn operands_broadcast_and_promote() {
    let column = complex(&[(1.0, 0.0), (0.0, 1.0)]).reshape((2, 1)).unwrap();
    let row = complex(&[(1.0, 1.0), (2.0, 0.0), (0.0, 3.0)]).to_dtype(ComplexDType::Complex64).unwrap();
    let product = column.mul(&row).unwrap();
    assert_eq!((product.dims(), product.dtype()), (&[2, 3][..], ComplexDType::Complex128));
    assert_eq!(pairs(&product)[3..], [(-1.0, 1.0), (0.0, 2.0), (-3.0, 0.0)]);
}

#[test]
fn empty_tensors_are_fine() {
    let empty = ComplexTensor::zeros((0, 3), ComplexDType::Complex128, &Device::Cpu).unwrap();
    for z in [empty.mul(&empty), empty.div(&empty), empty.exp(), empty.add(&empty)] {
        assert_eq!(z.unwrap().dims(), [0, 3]);
    }
    assert_eq!(empty.abs().unwrap().dims(), [0, 3]);
    assert_eq!(empty.angle().unwrap().dims(), [0, 3]);
}

#[test]
fn mismatches_are_errors() {
    let f64s = |n: usize| Tensor::zeros(n, DType::F64, &Device::Cpu).unwrap();
    let shapes = ComplexTensor::new(f64s(2), f64s(3)).unwrap_err();
    assert_eq!(shapes.to_string(), "complex: im is of shape [3]; expected [2] like re");
    let dtypes = ComplexTensor::new(f64s(2), f64s(2).to_dtype(DType::F32).unwrap()).unwrap_err();
    assert_eq!(dtypes.to_string(), "complex: im is f32; expected f64, as re is; cast one of them");
    let half = f64s(2).to_dtype(DType::F16).unwrap();
    let narrow = ComplexTensor::new(half.clone(), half).unwrap_err();
    assert_eq!(narrow.to_string(), "complex: re is f16; expected f32 or f64; cast it");

    let (two, three) = (complex(&[(1.0, 0.0); 2]), complex(&[(1.0, 0.0); 3]));
    for error in [two.add(&three), two.mul(&three), two.div(&three), two.matmul(&three), two.reshape((3, 1))]
    {
        let error = error.unwrap_err();
        assert!(
            matches!(&error, Error::InvalidArgument { got, .. } if got.starts_with("of shape")),
            "{error}"
        );
    }
}

/// A real function of a complex tensor, to check gradients with.
type RealOf = fn(&ComplexTensor, &ComplexTensor) -> Result<Tensor>;

/// Each op, made real with unequal weights on its parts.
const OPS: &[(&str, RealOf)] = &[
    ("add", |z, w| weigh(&z.add(w)?)),
    ("sub", |z, w| weigh(&z.sub(w)?)),
    ("mul", |z, w| weigh(&z.mul(w)?)),
    ("div", |z, w| weigh(&z.div(w)?)),
    ("matmul", |z, w| weigh(&z.reshape((2, 2))?.matmul(&w.reshape((2, 2))?.transpose(0, 1)?)?)),
    ("conj", |z, w| weigh(&z.conj()?.mul(w)?)),
    ("neg", |z, w| weigh(&z.neg()?.mul_scalar(1.5)?.mul(w)?)),
    ("exp", |z, w| weigh(&z.exp()?.mul(w)?)),
    ("abs", |z, w| Ok((z.abs()? * w.abs()?)?)),
    ("angle", |z, w| Ok((z.angle()? * w.real())?)),
    ("from_polar", |z, w| weigh(&ComplexTensor::from_polar(z.real(), z.imag())?.mul(w)?)),
];

fn weigh(z: &ComplexTensor) -> Result<Tensor> {
    let weights = Tensor::arange(1f64, 5.0, z.device())?.reshape(z.shape())?;
    Ok(((z.real() * &weights)? + (z.imag().affine(-0.7, 0.0)? * weights.sqrt()?)?)?)
}

/// One number per element, away from zero and from the negative axis, where the angle jumps.
fn part() -> impl Strategy<Value = f64> {
    prop_oneof![0.3..2.0, -2.0..-0.3]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn gradients_agree_with_central_differences(values in prop::collection::vec(part(), 16)) {
        const H: f64 = 1e-5;
        for &(name, op) in OPS {
            let loss = |parts: &[Tensor]| -> Result<Tensor> {
                let z = ComplexTensor::new(parts[0].clone(), parts[1].clone())?;
                let w = ComplexTensor::new(parts[2].clone(), parts[3].clone())?;
                Ok(op(&z, &w)?.sum_all()?)
            };
            let vars: Vec<Var> = values.chunks(4).map(|part| Var::new(part, &Device::Cpu).unwrap()).collect();
            let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
            let grads = backward(loss(&tensors).unwrap()).unwrap();
            for i in 0..16 {
                let at = |step: f64| {
                    let mut moved = values.clone();
                    moved[i] += step;
                    let parts: Vec<Tensor> = moved.chunks(4).map(|p| Tensor::new(p, &Device::Cpu).unwrap()).collect();
                    loss(&parts).unwrap().to_scalar::<f64>().unwrap()
                };
                // The truncation error is h²/6 of a third derivative, here at most some 10³.
                let wanted = (at(H) - at(-H)) / (2.0 * H);
                let got = grads.get(&vars[i / 4]).map_or(0.0, |grad| reals(grad)[i % 4]);
                prop_assert!((got - wanted).abs() <= 1e-6 * (1.0 + wanted.abs()), "{name}[{i}]: {got} against {wanted}");
            }
        }
    }

    #[test]
    fn polar_form_returns(values in prop::collection::vec((part(), part()), 1..9)) {
        let z = complex(&values);
        let back = ComplexTensor::from_polar(&z.abs().unwrap(), &z.angle().unwrap()).unwrap();
        for ((a, b), (c, d)) in pairs(&back).into_iter().zip(values) {
            prop_assert!((a - c).abs() < 1e-14 && (b - d).abs() < 1e-14, "({a}, {b}) against ({c}, {d})");
        }
    }
}

#[test]
fn angles_are_accurate_all_around_in_both_dtypes() {
    let circle: Vec<Pair> =
        (-1000..=1000).map(|i| (f64::from(i) * PI / 1000.5).sin_cos()).map(|(s, c)| (c, s)).collect();
    let z = complex(&circle);
    for (dtype, epsilon) in
        [(ComplexDType::Complex128, f64::EPSILON), (ComplexDType::Complex64, f64::from(f32::EPSILON))]
    {
        let z = z.to_dtype(dtype).unwrap();
        let angles = reals(&z.angle().unwrap());
        for ((re, im), angle) in pairs(&z).into_iter().zip(angles) {
            let wanted = im.atan2(re);
            assert!(
                (angle - wanted).abs() <= 4.0 * epsilon * wanted.abs(),
                "{dtype}: {wanted} against {angle}"
            );
        }
    }
    assert_eq!(reals(&complex(&[(0.0, 1.0), (1.0, 1.0)]).angle().unwrap()), [FRAC_PI_2, FRAC_PI_4]);
}

#[test]
fn autocast_leaves_complex_tensors_alone() {
    let z = complex(&[(1.0, 1e-3); 4]).to_dtype(ComplexDType::Complex64).unwrap().reshape((2, 2)).unwrap();
    let plain = pairs(&z.matmul(&z).unwrap());
    let inside = Autocast::new(Accelerator::Cpu, DType::BF16).unwrap().run(|| z.matmul(&z).unwrap());
    assert_eq!((inside.dtype(), pairs(&inside)), (ComplexDType::Complex64, plain));
}

#[test]
fn no_grad_records_nothing() {
    let re = Var::new(&[1f64], &Device::Cpu).unwrap();
    let z = ComplexTensor::from_real(re.as_tensor().clone()).unwrap();
    assert!(z.exp().unwrap().real().track_op());
    let ops = no_grad(|| [z.exp(), z.mul(&z), z.div(&z), z.conj(), z.neg(), z.add(&z), z.matmul_self()]);
    for result in ops {
        let result = result.unwrap();
        assert!(!result.real().track_op() && !result.imag().track_op());
    }
    assert!(!no_grad(|| z.abs().unwrap()).track_op() && !no_grad(|| z.angle().unwrap()).track_op());
}

/// `z · z` as a matrix product.
trait MatmulSelf {
    fn matmul_self(&self) -> Result<ComplexTensor>;
}

impl MatmulSelf for ComplexTensor {
    fn matmul_self(&self) -> Result<ComplexTensor> {
        let matrix = self.reshape((1, 1))?;
        matrix.matmul(&matrix)
    }
}

#[test]
fn a_models_complex_parameter_follows_the_precision_and_is_saved_with_it() {
    let cases = [
        (DType::F64, ComplexDType::Complex128),
        (DType::F32, ComplexDType::Complex64),
        (DType::BF16, ComplexDType::Complex64),
        (DType::F16, ComplexDType::Complex64),
    ];
    for (dtype, wanted) in cases {
        let init = Init::Randn { mean: 0.0, stdev: 1.0 };
        let vars = VarMap::new();
        let vb = VarBuilder::from_varmap(&vars, dtype, &Device::Cpu).pp("filter");
        let z = ComplexTensor::var(&vb, (2, 3), "poles", init).unwrap();
        assert_eq!((z.dtype(), z.dims()), (wanted, &[2, 3][..]));
        assert_ne!(reals(z.real()), reals(z.imag()));

        let file = std::env::temp_dir()
            .join(format!("autocast-complex-{}-{dtype:?}.safetensors", std::process::id()));
        vars.save(&file).unwrap();
        let mut other = VarMap::new();
        let vb = VarBuilder::from_varmap(&other, dtype, &Device::Cpu).pp("filter");
        let loaded = ComplexTensor::var(&vb, (2, 3), "poles", init).unwrap();
        assert_ne!(pairs(&loaded), pairs(&z));
        other.load(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(pairs(&loaded), pairs(&z));

        let grads = backward(loaded.abs().unwrap().sum_all().unwrap()).unwrap();
        let names = other.data().lock().unwrap();
        for name in ["filter.poles.re", "filter.poles.im"] {
            assert!(grads.get(&names[name]).is_some(), "{name}");
        }
    }
}
