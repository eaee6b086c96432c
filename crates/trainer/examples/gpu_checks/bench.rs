//! What a step costs on GPT-2 124M's parameter list: unscale, clip by norm, AdamW and the scale's update.

use crate::report::Outcome;
use crate::step::scaler;
use backends::kernels::adamw::{Decay, Settings};
use backends::kernels::step::{self, Parameter, Scaling, State, Stepper, WriteBack};
use candle_core::cuda_backend::cudarc::driver::sys::CUevent_flags;
use candle_core::{DType, Device, Tensor};

/// The shapes of GPT-2 124M with a vocabulary of 50304.
fn shapes() -> Vec<usize> {
    let d = 768;
    let block = [d, d, 3 * d * d, 3 * d, d * d, d, d, d, 4 * d * d, 4 * d, 4 * d * d, d];
    let mut all = vec![50304 * d, 1024 * d];
    (0..12).for_each(|_| all.extend(block));
    all.extend([d, d]);
    all
}

/// The median, in milliseconds, of 50 runs that each begin on an idle device: the host's time counts where it is late.
fn idle(device: &Device, mut run: impl FnMut(usize) -> Outcome<()>) -> Outcome<f32> {
    let stream = device.as_cuda_device()?.cuda_stream();
    let mut times = Vec::new();
    for i in 0..55 {
        let start = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
        run(i)?;
        let end = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
        end.synchronize()?;
        times.push(start.elapsed_ms(&end)?);
    }
    times.drain(..5);
    times.sort_by(f32::total_cmp);
    Ok(times[times.len() / 2])
}

/// The mean over 200 runs queued behind each other, as in training, where the device is never idle.
fn queued(device: &Device, mut run: impl FnMut(usize) -> Outcome<()>) -> Outcome<f32> {
    let stream = device.as_cuda_device()?.cuda_stream();
    let start = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
    for i in 0..200 {
        run(i)?;
    }
    let end = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
    end.synchronize()?;
    Ok(start.elapsed_ms(&end)? / 200.0)
}

pub(crate) fn run(device: &Device) -> Outcome<()> {
    let candle = device.as_cuda_device()?;
    let stream = candle.cuda_stream();
    let src = candle.alloc_zeros::<u8>(1 << 30)?;
    let mut dst = candle.alloc_zeros::<u8>(1 << 30)?;
    let copy_ms = idle(device, |_| Ok(stream.memcpy_dtod(&src, &mut dst)?))?;
    let rate = 2.0 * f64::from(1u32 << 30) / f64::from(copy_ms) / 1e9;
    let count: usize = shapes().iter().sum();
    let bound = |bytes: f64| bytes * count as f64 / rate / 1e9;
    println!(
        "copy rate {rate:.2} TB/s; {count} parameters: 28 bytes each {:.3} ms, 32 bytes {:.3} ms",
        bound(28.0),
        bound(32.0)
    );
    println!("{:<58} {:>10} {:>10} {:>8}", "", "idle ms", "queued ms", "of rate");
    fused(device, "f32 parameters, f32 gradients", DType::F32, DType::F32, true, bound)?;
    fused(
        device,
        "f32 parameters, f32 gradients, no scaler, no clipping",
        DType::F32,
        DType::F32,
        false,
        bound,
    )?;
    fused(device, "f16 parameters with f32 masters, f16 gradients", DType::F16, DType::F16, true, |n| {
        bound(n)
    })?;
    fused(device, "bf16 parameters with f32 masters, bf16 gradients", DType::BF16, DType::BF16, true, |n| {
        bound(n)
    })?;
    Ok(())
}

fn fused(
    device: &Device,
    name: &str,
    weights: DType,
    grad: DType,
    scaled: bool,
    bound: impl Fn(f64) -> f64,
) -> Outcome<()> {
    let narrow = weights != DType::F32;
    let shapes = shapes();
    let random = |dtype: DType| -> Outcome<Vec<Tensor>> {
        shapes.iter().map(|&len| Ok(Tensor::randn(0f32, 0.02, len, device)?.to_dtype(dtype)?)).collect()
    };
    let params = random(weights)?;
    let state = |p: &Tensor| -> Outcome<State> {
        let zeros = || Tensor::zeros(p.shape(), DType::F32, device);
        let write_back = if narrow { WriteBack::Master(p.to_dtype(DType::F32)?) } else { WriteBack::Nearest };
        Ok(State { moments: vec![zeros()?, zeros()?], write_back })
    };
    let states = params.iter().map(state).collect::<Outcome<Vec<State>>>()?;
    // Two sets, so that addresses change at every step, as they do in training.
    let grads = [random(grad)?, random(grad)?];
    let mut stepper = Stepper::new(device, &vec![0; shapes.len()], 0)?;
    let mut scale = scaler(device, 1.0)?;
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
        if scaled {
            let clip = step::Settings { max_norm: Some(1.0), ..Default::default() };
            stepper.step(&parameters, &[adamw], &clip, Scaling::Carried(&mut scale))?;
            scale.update()?;
        } else {
            stepper.step(&parameters, &[adamw], &step::Settings::default(), Scaling::None)?;
        }
        Ok(())
    };
    let (idle, queued) = (idle(device, &mut run)?, queued(device, &mut run)?);
    // Moments and full-precision weights are read and written, gradients read once and, where they are looked at, twice.
    let looks = if scaled { 2.0 } else { 1.0 };
    let stored = if narrow { 4.0 } else { 0.0 };
    let bytes = 24.0 + stored + looks * grad.size_in_bytes() as f64;
    println!("{name:<58} {idle:>10.3} {queued:>10.3} {:>7.0}%", 100.0 * bound(bytes) / f64::from(queued));
    Ok(())
}
