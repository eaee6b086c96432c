//! Convolutions, norms and pools over a fuzzed set of shapes, groups, strides, dilations, paddings and layouts: values and gradients
//! in every dtype on the device against f64 on the CPU.

mod convolutions;

use autocast::ops::{self, PoolOptions};
use autocast::{Result, backward};
use candle_core::{DType, Device, Tensor, Var};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::catalogue::Samples;
use crate::catalogue::samples::numbers;
use crate::report::{Outcome, Report, wrong};

/// Trials of each kind.
const TRIALS: u64 = 24;

/// An op on inputs that lie as they are made: one whose channels lie last is `(N, …, C)`, and permuted by `run`.
struct Trial {
    name: String,
    inputs: Vec<Tensor>,
    run: Run,
    /// The most terms that any sum has, values and gradients.
    terms: usize,
    /// How many times a 16-bit result is rounded on its way.
    roundings: u32,
}

type Run = Box<dyn Fn(&[Tensor]) -> Result<Tensor>>;
type Kind = fn(&mut StdRng, &mut Samples) -> Trial;

/// Every kind of op on images.
pub fn run(device: &Device, report: &mut Report) {
    let kinds: [(&str, Kind); 4] = [
        ("convolutions", convolutions::convolution),
        ("transposed convolutions", convolutions::transposed),
        ("batch norms", batch_norm),
        ("maximum pools", max_pool),
    ];
    for (name, kind) in kinds {
        report.check(&format!("{name} of {TRIALS} shapes: values and gradients"), || fuzz(kind, device));
    }
}

fn fuzz(kind: Kind, device: &Device) -> Outcome<String> {
    for seed in 0..TRIALS {
        let trial = kind(&mut StdRng::seed_from_u64(seed), &mut Samples::new(seed, &Device::Cpu));
        for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
            check(&trial, dtype, device)?;
        }
    }
    Ok("f64, f32, f16, bf16".into())
}

/// The value and the gradients of a trial at inputs that are rounded to `dtype`, computed in `to`.
fn differentiate(trial: &Trial, dtype: DType, to: DType, device: &Device) -> Outcome<Vec<Tensor>> {
    let var = |t: &Tensor| -> Outcome<Var> {
        Ok(Var::from_tensor(&t.to_dtype(dtype)?.to_dtype(to)?.to_device(device)?)?)
    };
    let vars = trial.inputs.iter().map(var).collect::<Outcome<Vec<_>>>()?;
    let args: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let value = (trial.run)(&args)?;
    let seed = Samples::new(7, device).seed_gradient(value.dims());
    let grads = backward((value.to_dtype(DType::F64)? * seed)?.sum_all()?)?;
    let mut all = vec![value.detach()];
    for var in &vars {
        all.push(grads.get(var.as_tensor()).ok_or("an input has no gradient")?.clone());
    }
    Ok(all)
}

fn check(trial: &Trial, dtype: DType, device: &Device) -> Outcome<()> {
    let got = differentiate(trial, dtype, dtype, device)?;
    let want = differentiate(trial, dtype, DType::F64, &Device::Cpu)?;
    let (epsilon, least) = match dtype {
        DType::F16 => (f64::powi(2., -10), f64::powi(2., -24)),
        DType::BF16 => (f64::powi(2., -7), f64::powi(2., -133)),
        DType::F32 => (f64::powi(2., -23), f64::powi(2., -149)),
        _ => (f64::powi(2., -52), 0.),
    };
    let roundoff = if dtype == DType::F64 { f64::powi(2., -52) } else { f64::powi(2., -23) };
    for (what, (got, want)) in got.iter().zip(&want).enumerate() {
        if (got.dims(), got.dtype()) != (want.dims(), dtype) {
            return wrong(format!("{}: {what} is {:?} of {:?}", trial.name, got.dtype(), got.dims()));
        }
        let (got, want) = (numbers(got), numbers(want));
        let largest = want.iter().fold(1f64, |most, w| most.max(w.abs()));
        // Half an ULP of the result; what was rounded before it, and the sum, are relative to the largest entry.
        let before = f64::from(trial.roundings - 1) * epsilon * largest;
        let summed = 8. * trial.terms as f64 * roundoff * largest;
        for (i, (&g, &w)) in got.iter().zip(&want).enumerate() {
            let bound = epsilon / 2. * w.abs() + before + summed + least;
            if (g - w).abs() > bound || g.is_nan() {
                return wrong(format!(
                    "{} {}: {what}[{i}] is {g}, f64 gives {w}, bound {bound}",
                    trial.name,
                    dtype.as_str()
                ));
            }
        }
    }
    Ok(())
}

/// An image of these dimensions, lying with its channels last or second.
fn image(samples: &mut Samples, dims: &[usize], last: bool) -> Tensor {
    let laid = if last { [&dims[..1], &dims[2..], &dims[1..2]].concat() } else { dims.to_vec() };
    samples.uniform(&laid, -1., 1.)
}

/// An image whose values, normalised by channel, are no closer to 0 than 0.5: a relu behind them is on the same side in any dtype.
fn far_from_0(samples: &mut Samples, dims: &[usize], last: bool) -> Tensor {
    let pixels: usize = dims[2..].iter().product();
    let signs: Vec<f64> = (0..dims[0])
        .flat_map(|n| {
            (0..dims[1]).flat_map(move |_| (0..pixels).map(move |s| if (n + s) % 2 == 0 { 1. } else { -1. }))
        })
        .collect();
    let made = || -> candle_core::Result<Tensor> {
        let image = (samples.uniform(dims, 0.9, 1.1) * Tensor::from_vec(signs, dims, &Device::Cpu)?)?;
        match (last, dims.len()) {
            (false, _) => Ok(image),
            (true, 3) => image.permute((0, 2, 1))?.contiguous(),
            (true, _) => image.permute((0, 2, 3, 1))?.contiguous(),
        }
    };
    made().unwrap_or_else(|error| panic!("{error}"))
}

/// `(N, C, …)` of what [`image`] made.
fn seen(x: &Tensor, last: bool) -> candle_core::Result<Tensor> {
    match (last, x.rank()) {
        (false, _) => Ok(x.clone()),
        (true, 3) => x.permute((0, 2, 1)),
        (true, _) => x.permute((0, 3, 1, 2)),
    }
}

fn batch_norm(rng: &mut StdRng, samples: &mut Samples) -> Trial {
    let spatial: usize = rng.random_range(0..=2);
    let channels = [1, 3, 8, 40, 64, 300][rng.random_range(0..6)];
    let mut dims = vec![rng.random_range(2..=5), channels];
    dims.extend((0..spatial).map(|_| [1, 4, 7, 8, 16][rng.random_range(0..5)]));
    let last = spatial > 0 && rng.random();
    let mut inputs = vec![far_from_0(samples, &dims, last)];
    inputs.push(samples.uniform(&[channels], 1., 1.5));
    inputs.push(samples.uniform(&[channels], -0.15, 0.15));
    let then = rng.random_range(0..3);
    let residual_last = last && rng.random();
    if then == 2 {
        let laid = image(samples, &dims, residual_last);
        inputs.push((laid * 0.2).unwrap_or_else(|e| panic!("{e}")));
    }
    Trial {
        name: format!(
            "batch norm of {dims:?}, channels last {last}, {}",
            ["plain", "relu", "add, relu"][then]
        ),
        terms: dims.iter().product::<usize>() / channels,
        // Composed: the norm's, the sum's, and those of their gradients.
        roundings: 3,
        inputs,
        run: Box::new(move |x| {
            let image = seen(&x[0], last)?;
            let (weight, bias) = (Some(&x[1]), Some(&x[2]));
            let made = match then {
                0 => ops::batch_norm_train(&image, weight, bias, 1e-3)?,
                1 => ops::batch_norm_relu(&image, weight, bias, 1e-3)?,
                _ => ops::batch_norm_add_relu(&image, &seen(&x[3], residual_last)?, weight, bias, 1e-3)?,
            };
            Ok(made.output)
        }),
    }
}

fn max_pool(rng: &mut StdRng, samples: &mut Samples) -> Trial {
    let kernel = [(); 2].map(|()| rng.random_range(1..=4usize));
    let options = PoolOptions {
        kernel,
        stride: [(); 2].map(|()| rng.random_range(1..=4)),
        padding: kernel.map(|kernel| rng.random_range(0..=kernel / 2)),
    };
    let dims = [
        rng.random_range(1..=2),
        [1, 3, 8, 16][rng.random_range(0..4)],
        kernel[0] + rng.random_range(0..4),
        kernel[1] + rng.random_range(0..4),
    ];
    let last: bool = rng.random();
    let laid = if last { [dims[0], dims[2], dims[3], dims[1]] } else { dims };
    Trial {
        name: format!("maximum of {options:?} of {dims:?}, channels last {last}"),
        // Ties are won by the first on any device.
        inputs: vec![samples.distinct(&laid)],
        terms: 16,
        roundings: 1,
        run: Box::new(move |x| ops::max_pool2d(&seen(&x[0], last)?, &options)),
    }
}
