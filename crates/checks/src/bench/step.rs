//! What a step of the optimizer costs on GPT-2 124M's parameters: unscale, clip by norm, AdamW and the scale's update.

use backends::kernels::adamw::{Decay, Settings};
use backends::kernels::step::{self, Parameter, Scaling, State, Stepper, WriteBack};
use candle_core::{DType, Device, Tensor};
use serde::Serialize;

use super::clock::{events, time};
use super::line::{median, print, round};
use crate::kernels;
use crate::report::Outcome;

/// The shapes of GPT-2 124M with a vocabulary of 50304.
fn shapes() -> Vec<usize> {
    let d = 768;
    let block = [d, d, 3 * d * d, 3 * d, d * d, d, d, d, 4 * d * d, 4 * d, 4 * d * d, d];
    let mut all = vec![50304 * d, 1024 * d];
    (0..12).for_each(|_| all.extend(block));
    all.extend([d, d]);
    all
}

/// What else a step does beside the update.
#[derive(Clone, Copy, PartialEq)]
enum Around {
    Nothing,
    ScalingAndClipping,
}

/// What is printed of a kind of step.
#[derive(Serialize)]
struct Line {
    op: &'static str,
    /// The median of steps that each begin on an idle device.
    idle_ms: f64,
    /// The mean of steps that wait behind each other, as in training.
    queued_ms: f64,
    /// What copying as many bytes would take, over `queued_ms`.
    of_copy_rate: f64,
}

pub(crate) fn run(device: &Device) -> Outcome<()> {
    use Around::{Nothing, ScalingAndClipping};
    let gigabytes_per_ms = 2.147_483_648 / copy_ms(device)?;
    print(&serde_json::json!({ "op": "copy 2x1 GiB", "tb_per_s": round(gigabytes_per_ms, 3) }))?;
    for (name, weights, around) in [
        ("f32 parameters, f32 gradients", DType::F32, ScalingAndClipping),
        ("f32 parameters, f32 gradients, no scaler, no clipping", DType::F32, Nothing),
        ("f16 parameters with f32 masters, f16 gradients", DType::F16, ScalingAndClipping),
        ("bf16 parameters with f32 masters, bf16 gradients", DType::BF16, ScalingAndClipping),
    ] {
        let (bytes, times) = fused(device, weights, around)?;
        let of_copy_rate = round(bytes / 1e9 / gigabytes_per_ms / times.1, 3);
        print(&Line { op: name, idle_ms: round(times.0, 4), queued_ms: round(times.1, 4), of_copy_rate })?;
    }
    Ok(())
}

/// The time of a copy of 1 GiB, which reads and writes as much, in milliseconds.
fn copy_ms(device: &Device) -> Outcome<f64> {
    let candle = device.as_cuda_device()?;
    let stream = candle.cuda_stream();
    let src = candle.alloc_zeros::<u8>(1 << 30)?;
    let mut dst = candle.alloc_zeros::<u8>(1 << 30)?;
    idle(device, |_| Ok(stream.memcpy_dtod(&src, &mut dst)?))
}

fn idle(device: &Device, mut run: impl FnMut(usize) -> Outcome<()>) -> Outcome<f64> {
    let times = (0..55).map(|i| time(device, || run(i))).collect::<Outcome<Vec<_>>>()?;
    Ok(median(&times[5..]).unwrap_or(f64::NAN))
}

fn queued(device: &Device, mut run: impl FnMut(usize) -> Outcome<()>) -> Outcome<f64> {
    Ok(events(device, || (0..200).try_for_each(&mut run))? / 200.)
}

/// The bytes that a step has to move, and its times on an idle and on a busy device.
fn fused(device: &Device, dtype: DType, around: Around) -> Outcome<(f64, (f64, f64))> {
    let shapes = shapes();
    let random = || -> Outcome<Vec<Tensor>> {
        shapes.iter().map(|&len| Ok(Tensor::randn(0f32, 0.02, len, device)?.to_dtype(dtype)?)).collect()
    };
    let params = random()?;
    let state = |p: &Tensor| -> Outcome<State> {
        let zeros = || Tensor::zeros(p.shape(), DType::F32, device);
        let write_back = match dtype {
            DType::F32 => WriteBack::Nearest,
            _ => WriteBack::Master(p.to_dtype(DType::F32)?),
        };
        Ok(State { moments: vec![zeros()?, zeros()?], write_back })
    };
    let states = params.iter().map(state).collect::<Outcome<Vec<State>>>()?;
    // Two sets, so that addresses change at every step, as they do in training.
    let grads = [random()?, random()?];
    let mut stepper = Stepper::new(device, &vec![0; shapes.len()], 0)?;
    let mut scale = kernels::scaler(device, 1.0)?;
    let adamw = Settings { lr: 1e-4, betas: (0.9, 0.999), eps: 1e-8, decay: Decay::Decoupled(0.1) };
    let mut run = |i: usize| -> Outcome<()> {
        let parameters: Vec<Parameter<'_>> = (0..shapes.len())
            .map(|slot| Parameter {
                slot,
                group: 0,
                weights: &params[slot],
                grad: &grads[i % 2][slot],
                state: &states[slot],
            })
            .collect();
        match around {
            Around::ScalingAndClipping => {
                let clip = step::Settings { max_norm: Some(1.0), ..Default::default() };
                stepper.step(&parameters, &[adamw], &clip, Scaling::Carried(&mut scale))?;
                scale.update()?;
            }
            Around::Nothing => {
                stepper.step(&parameters, &[adamw], &step::Settings::default(), Scaling::None)?;
            }
        }
        Ok(())
    };
    let times = (idle(device, &mut run)?, queued(device, &mut run)?);
    // Moments and full-precision weights are read and written, gradients read once and, where they are looked at, twice.
    let looks = if around == Around::ScalingAndClipping { 2.0 } else { 1.0 };
    let stored = if dtype == DType::F32 { 0.0 } else { 4.0 };
    let count: usize = shapes.iter().sum();
    Ok((count as f64 * (24.0 + stored + looks * dtype.size_in_bytes() as f64), times))
}
