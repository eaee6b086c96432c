//! On a GPU: long sums, pointwise functions over their whole domain, and tensors without elements.

use autocast::{backward, ops};
use candle_core::{DType, Device, Tensor, Var};
use precision_types::ulp_distance;

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

/// The farthest that f32 on the device is from f64 on the CPU, rounded: one ULP, where the two libraries' f64 differ beside
/// a tie.
fn ulps(name: &str, op: Op, device: &Device) -> Outcome<String> {
    let x: Vec<f32> = sweep().into_iter().filter(|x| x.is_finite()).collect();
    let both = |dtype: DType, device: &Device| -> Outcome<[Vec<f32>; 2]> {
        let x = Tensor::new(x.as_slice(), device)?.to_dtype(dtype)?;
        let x = Var::from_tensor(&x)?;
        let y = op(&x)?;
        let grads = backward(ops::sum_all(&y)?)?;
        let dx = grads.get(&x).ok_or("no gradient")?.clone();
        let numbers = |t: &Tensor| t.to_dtype(DType::F32)?.to_vec1::<f32>();
        Ok([numbers(&y)?, numbers(&dx)?])
    };
    let (got, want) = (both(DType::F32, device)?, both(DType::F64, &Device::Cpu)?);
    let worst = |which: usize| {
        let pairs = got[which].iter().zip(&want[which]).zip(&x);
        let distances =
            pairs.map(|((&got, &want), &x)| (ulp_distance(got, want).unwrap_or(u64::MAX), x, got, want));
        distances.max_by_key(|(distance, ..)| *distance)
    };
    let (Some(value), Some(gradient)) = (worst(0), worst(1)) else { return wrong("nothing to compare") };
    let line = |(distance, x, got, want): (u64, f32, f32, f32)| match distance {
        u64::MAX => format!("no distance at {x:e}: {got:e} for {want:e}"),
        distance => format!("{distance} ULP at {x:e}: {got:e} for {want:e}"),
    };
    let seen = format!("value {}; gradient {}", line(value), line(gradient));
    if value.0.max(gradient.0) > 1 { wrong(format!("{name}: {seen}")) } else { Ok(seen) }
}
