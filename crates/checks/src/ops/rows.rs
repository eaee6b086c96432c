//! Kernels over rows at the sizes of a training step, where blocks walk over many rows: a GPU's against the CPU's, of the same inputs.

use backends::kernels::norm::{self, Centre, Norm, Normalized, Wanted};
use backends::kernels::pointwise::{Function, gradient_of, value_of};
use backends::kernels::sum::{Axes, Term, sum_of};
use candle_core::{DType, Device, Tensor};

use crate::catalogue::Samples;
use crate::report::{Outcome, Report, wrong};

/// Rows of a norm: each block has several, and the last has fewer.
const ROWS: usize = 5_003;
const FLOATS: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

pub(super) fn run(device: &Device, report: &mut Report) {
    for width in [64, 400, 520, 768, 1_000, 1_024, 1_025] {
        report.check(&format!("norms of {ROWS} rows of {width}"), || norms(device, width));
    }
    report.check("norms of very large and very small rows", || outsized(device));
    report.check("sums of columns and rows", || sums(device));
    report.check("16-bit functions of every number", || sixteen(device));
}

/// The largest difference in units of `unit · |want| + size · 2⁻²⁰`, which is at most 1.
fn compare(got: &Tensor, want: &Tensor, size: f64, what: &str) -> Outcome<f64> {
    let unit = match got.dtype() {
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        _ => 2f64.powi(-22),
    };
    let values = |x: &Tensor| -> Outcome<Vec<f64>> {
        Ok(x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
    };
    let mut most = 0f64;
    for (i, (got, want)) in values(got)?.into_iter().zip(values(want)?).enumerate() {
        if got == want || (got.is_nan() && want.is_nan()) {
            continue;
        }
        let off = (got - want).abs() / (unit * want.abs() + size * 2f64.powi(-20));
        if off.is_nan() || off > 1. {
            return wrong(format!("{what}: element {i} is {got} and on the CPU {want}"));
        }
        most = most.max(off);
    }
    Ok(most)
}

fn norms(device: &Device, width: usize) -> Outcome<String> {
    let mut most = 0f64;
    for (i, (dtype, narrow)) in FLOATS.iter().flat_map(|x| FLOATS.map(|dy| (*x, dy))).enumerate() {
        if narrow != dtype && dtype != DType::F32 && narrow != DType::F32 {
            continue;
        }
        let mut samples = Samples::new(i as u64, &Device::Cpu);
        let mut draw = |dims: &[usize], dtype| samples.uniform(dims, -2., 2.).to_dtype(dtype);
        let (x, dy) = (draw(&[ROWS, width], dtype)?, draw(&[ROWS, width], narrow)?);
        let (plus, weight) = (draw(&[ROWS, width], dtype)?, draw(&[width], dtype)?);
        let norm = Norm { centre: if i % 2 == 0 { Centre::Mean } else { Centre::Zero }, width, eps: 1e-5 };
        let wanted = Wanted { x: Some(dtype), weight: Some(dtype), bias: Some(DType::F32) };
        let run = |device: &Device| -> Outcome<_> {
            let [x, dy, plus, weight] = [&x, &dy, &plus, &weight].map(|t| t.to_device(device));
            let (x, weight) = (x?, weight?);
            let value = norm::value_of(norm, &x, Some(&weight), None, dtype)?;
            let Some(Normalized { y, statistics }) = value else { return wrong("no kernel forward") };
            let plus = Some(&plus?).cloned();
            let grads =
                norm::gradients_of(norm, &dy?, &x, Some(&weight), &statistics, wanted, plus.as_ref())?;
            let Some(grads) = grads else { return wrong("no kernel backward") };
            let missing = || wrong("a gradient is missing");
            let of = |grad: Option<Tensor>| grad.map_or_else(missing, Ok);
            Ok([y, of(grads.x)?, of(grads.weight)?, of(grads.bias)?])
        };
        let sizes = [16., 32., 8. * ROWS as f64, 4. * ROWS as f64];
        for (which, (size, (got, want))) in
            sizes.into_iter().zip(run(device)?.iter().zip(run(&Device::Cpu)?)).enumerate()
        {
            most =
                most.max(compare(got, &want, size, &format!("{dtype:?} beside {narrow:?}, tensor {which}"))?);
        }
    }
    Ok(format!("at most {most:.2} of the bound"))
}

/// Rows whose squares leave f32, among others: what a first pass puts off.
fn outsized(device: &Device) -> Outcome<String> {
    let mut most = 0f64;
    for dtype in [DType::F32, DType::BF16] {
        for (width, centre) in [(520, Centre::Mean), (768, Centre::Zero)] {
            let sizes = (0..ROWS).map(|row| match row % 50 {
                7 => 1e30,
                8 => 1e-30,
                9 => 0.,
                _ => 1.,
            });
            let sizes = Tensor::from_iter(sizes, &Device::Cpu)?.reshape((ROWS, 1))?;
            let x = Samples::new(3, &Device::Cpu).uniform(&[ROWS, width], -2., 2.).to_dtype(DType::F64)?;
            let x = x.broadcast_mul(&sizes)?.to_dtype(dtype)?;
            let norm = Norm { centre, width, eps: 1e-70 };
            let value = |device: &Device| -> Outcome<Tensor> {
                let value = norm::value_of(norm, &x.to_device(device)?, None, None, dtype)?;
                value.map_or_else(|| wrong("no kernel"), |value| Ok(value.y))
            };
            let what = format!("{dtype:?}, rows of {width}");
            most = most.max(compare(&value(device)?, &value(&Device::Cpu)?, 1., &what)?);
        }
    }
    Ok(format!("at most {most:.2} of the bound"))
}

fn sums(device: &Device) -> Outcome<String> {
    let mut most = 0f64;
    for (reduced, inner) in
        [(16_387, 768), (4_099, 2_304), (3_001, 64), (1_000, 100), (777, 33), (40_000, 1), (513, 520)]
    {
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
            let x = Samples::new(1, &Device::Cpu).uniform(&[2, reduced, inner], -2., 2.).to_dtype(dtype)?;
            let axes = Axes { outer: 2, reduced, inner };
            let sum = |device: &Device| -> Outcome<Tensor> {
                match sum_of(&x.to_device(device)?, axes, Term::Value, dtype)?.ran() {
                    Some(sums) => Ok(sums),
                    None => wrong("no kernel"),
                }
            };
            let what = format!("{dtype:?}, {reduced} rows of {inner}");
            // Sums are exact to f64 on both sides.
            most = most.max(compare(&sum(device)?, &sum(&Device::Cpu)?, 2f64.powi(-20), &what)?);
        }
    }
    Ok(format!("at most {most:.2} of the bound"))
}

/// Every 16-bit number, with gradients of every size, aligned and not.
fn sixteen(device: &Device) -> Outcome<String> {
    const FUNCTIONS: [Function; 8] = [
        Function::Relu,
        Function::Gelu,
        Function::GeluTanh,
        Function::Silu,
        Function::Sigmoid,
        Function::Tanh,
        Function::Scale { factor: 0.125 },
        Function::Square,
    ];
    let mut most = 0f64;
    for dtype in [DType::F16, DType::BF16] {
        let all = (0..=u16::MAX).map(|bits| match dtype {
            DType::F16 => half::f16::from_bits(bits).to_f32(),
            _ => half::bf16::from_bits(bits).to_f32(),
        });
        let x = Tensor::from_iter(all, &Device::Cpu)?.to_dtype(dtype)?;
        let grad = Samples::new(3, &Device::Cpu).uniform(&[1 << 16], -2., 2.).to_dtype(dtype)?;
        // A unit of the smallest numbers; of a slope that goes through zero, one of the terms that cancel there.
        let smallest = if dtype == DType::F16 { 2f64.powi(-4) } else { 1e-34 };
        for function in FUNCTIONS {
            for skipped in [0, 1] {
                let of = |t: &Tensor| t.narrow(0, skipped, (1 << 16) - skipped);
                let (x, grad) = (of(&x)?, of(&grad)?);
                let what = format!("{function:?} of {dtype:?}");
                let gpu = x.to_device(device)?;
                most =
                    most.max(compare(&value_of(function, &gpu)?, &value_of(function, &x)?, smallest, &what)?);
                let (got, want) = (
                    gradient_of(function, &gpu, &grad.to_device(device)?)?,
                    gradient_of(function, &x, &grad)?,
                );
                most = most.max(compare(&got, &want, 1., &format!("gradient of {what}"))?);
            }
        }
    }
    Ok(format!("at most {most:.2} of the bound"))
}
