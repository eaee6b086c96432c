//! On a GPU: long sums, pointwise functions over their whole domain, and tensors without elements.

use autocast::{backward, ops};
use candle_core::{DType, Device, Tensor, Var};
use precision_types::{FloatFormat, ulp_distance};

use crate::catalogue::pointwise::{FUNCTIONS, Op, sweep};
use crate::catalogue::zero_sizes::zero_sizes;
use crate::report::{Outcome, Report, wrong};

pub(super) fn run(device: &Device, report: &mut Report) {
    report.check("sums of any length, forward and backward", || sums(device));
    report.check("ops on tensors without elements", || empty(device));
    for &(name, op, ..) in FUNCTIONS {
        report.check(&format!("{name} over all of f32"), || ulps(name, op, device));
    }
}

/// Two roundings of f32, and the bound of pairwise summation over at most 2²⁶ terms.
const BOUND: f64 = 28. / (1 << 24) as f64;

fn sums(device: &Device) -> Outcome<String> {
    let near = |what: &str, got: f64, want: f64| match (got - want).abs() <= BOUND * want.abs() {
        true => Ok(()),
        false => wrong(format!("{what}: {got} for {want}")),
    };
    let number =
        |t: &Tensor| -> Outcome<f64> { Ok(t.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?[0]) };
    let each = f64::from(0.479f32);
    for dims in [vec![40_000_000, 1], vec![4_000_000, 10], vec![1, 40_000_000], vec![300, 7, 19_000]] {
        let x = Tensor::full(0.479f32, dims.as_slice(), device)?;
        near(&format!("mean over the first of {dims:?}"), number(&ops::mean(&x, 0)?)?, each)?;
        near(&format!("mean of {dims:?}"), number(&ops::mean_all(&x)?)?, each)?;
        if number(&ops::var(&x, 0, 0)?)? != 0. {
            return wrong(format!("the variance of a constant of {dims:?}"));
        }
    }
    let tenth = f64::from(0.1f32);
    let gradient = |y: Tensor, parameter: &Var| -> Outcome<f64> {
        let grads = backward(ops::mul_scalar(&ops::sum_all(&y)?, 0.1)?)?;
        number(grads.get(parameter).ok_or("no gradient")?)
    };
    let rows = 524_288;
    let bias = Var::zeros(2, DType::F32, device)?;
    let y = ops::linear(
        &Tensor::ones((rows, 1), DType::F32, device)?,
        &Tensor::zeros((2, 1), DType::F32, device)?,
        Some(&bias),
    )?;
    near("the gradient of a bias", gradient(y, &bias)?, tenth * rows as f64)?;
    let table = Var::zeros((3, 2), DType::F32, device)?;
    let y = ops::embedding(&Tensor::zeros(1_000_000, DType::I64, device)?, &table)?;
    near("the gradient of a hot row", gradient(y, &table)?, tenth * 1e6)?;
    Ok("constants of 40M elements exact to two roundings; bias and embedding gradients".into())
}

fn empty(device: &Device) -> Outcome<String> {
    let failures = zero_sizes(device);
    match failures.len() {
        0 => Ok("every size of every input in turn".into()),
        count => wrong(format!("{count} cases, such as {}", failures[..count.min(25)].join(" | "))),
    }
}

/// What a GPU computes in f32 where elements are f32.
const IN_F32: &[&str] = &["gelu", "gelu_tanh", "silu", "sigmoid", "tanh"];
/// Those of them that are `x · s(x)`, whose derivative has two terms.
const OF_TWO_TERMS: &[&str] = &["gelu", "gelu_tanh", "silu"];

/// The farthest that f32 on the device is from f64 on the CPU, in ULPs of what is rounded: one, where the two libraries' f64 differ
/// beside a tie; of what is computed in f32, two of a value, and five of the sum of the sizes of a derivative's terms.
fn ulps(name: &str, op: Op, device: &Device) -> Outcome<String> {
    let x: Vec<f32> = sweep().into_iter().filter(|x| x.is_finite()).collect();
    let both = |dtype: DType, device: &Device| -> Outcome<[Vec<f64>; 2]> {
        let x = Tensor::new(x.as_slice(), device)?.to_dtype(dtype)?;
        let x = Var::from_tensor(&x)?;
        let y = op(&x)?;
        let grads = backward(ops::sum_all(&y)?)?;
        let dx = grads.get(&x).ok_or("no gradient")?.clone();
        let numbers = |t: &Tensor| t.to_dtype(DType::F64)?.to_vec1::<f64>();
        Ok([numbers(&y)?, numbers(&dx)?])
    };
    let (got, wanted) = (both(DType::F32, device)?, both(DType::F64, &Device::Cpu)?);
    let in_f32 = IN_F32.contains(&name);
    let worst = |which: usize| {
        let distances = (0..x.len()).map(|i| {
            let (got, want) = (got[which][i] as f32, wanted[which][i]);
            let steps = ulp_distance(got, want as f32).unwrap_or(u64::MAX);
            // The terms are s(x), the value over x, and the rest.
            let two = OF_TWO_TERMS.contains(&name) && x[i] != 0.;
            let term = if two { wanted[0][i] / f64::from(x[i]) } else { 0. };
            let size = term.abs() + (want - term).abs();
            let distance = match in_f32 && which == 1 && steps < u64::MAX {
                true => ((f64::from(got) - want).abs() / FloatFormat::F32.ulp(size)).ceil() as u64,
                false => steps,
            };
            (distance, x[i], got, want as f32)
        });
        distances.max_by_key(|(distance, ..)| *distance)
    };
    let (Some(value), Some(gradient)) = (worst(0), worst(1)) else { return wrong("nothing to compare") };
    let line = |(distance, x, got, want): (u64, f32, f32, f32)| match distance {
        u64::MAX => format!("no distance at {x:e}: {got:e} for {want:e}"),
        distance => format!("{distance} ULP at {x:e}: {got:e} for {want:e}"),
    };
    let seen = format!("value {}; gradient {}", line(value), line(gradient));
    let (of_value, of_gradient) = if in_f32 { (2, 5) } else { (1, 1) };
    match value.0 <= of_value && gradient.0 <= of_gradient {
        true => Ok(seen),
        false => wrong(format!("{name}: {seen}")),
    }
}
