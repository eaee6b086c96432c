//! What a step promises beside its arithmetic: when it is taken, what it leaves alone, what it tells, what it refuses.

use super::Extent;
use super::data::{Grad, compare, nan_payload, scaler};
use super::step::SETTINGS;
use crate::report::{Outcome, Report, wrong};
use backends::Floats;
use backends::cuda::{DeviceParameter, DeviceStep, DeviceWriteBack, StepSettings, capture};
use backends::kernels::adamw::{AdamW, Settings};
use backends::kernels::fused_step::{GradTransform, Parameter, WriteBack, fused_step_scalar};
use backends::kernels::grad_stats::grad_stats_scalar;
use candle_core::{DType, Device, Tensor};
use half::f16;

pub(super) fn run(device: &Device, report: &mut Report, extent: Extent) {
    report.check("norm and decision against the oracle", || decisions(device, extent));
    report.check("a skipped step touches nothing", || skips(device));
    report.check("counts of zeros and subnormals", || counts(device));
    report.check("no copy to the host, no wait in a step", || no_round_trip(device));
    report.check("what a step refuses", || refusals(device));
}

/// One parameter of each length, to step with.
struct Simple {
    weights: Vec<Tensor>,
    first: Vec<Tensor>,
    second: Vec<Tensor>,
}

impl Simple {
    fn new(device: &Device, sizes: &[usize]) -> Outcome<Self> {
        let all = |value: f32| -> Outcome<Vec<Tensor>> {
            sizes.iter().map(|&len| Ok(Tensor::full(value, len, device)?)).collect()
        };
        Ok(Self { weights: all(0.5)?, first: all(0.25)?, second: all(0.125)? })
    }

    fn parameters<'a>(&'a self, grads: &'a [Tensor]) -> Vec<DeviceParameter<'a>> {
        let each = self.weights.iter().zip(grads).zip(self.first.iter().zip(&self.second)).enumerate();
        each.map(|(slot, ((weights, grad), (first, second)))| DeviceParameter {
            slot,
            group: 0,
            weights,
            grad,
            write_back: DeviceWriteBack::Nearest,
            moments: [Some(first), Some(second)],
        })
        .collect()
    }

    fn bits(&self) -> Outcome<Vec<u32>> {
        let mut all = Vec::new();
        for tensor in self.weights.iter().chain(&self.first).chain(&self.second) {
            all.extend(tensor.to_vec1::<f32>()?.into_iter().map(f32::to_bits));
        }
        Ok(all)
    }
}

fn decisions(device: &Device, extent: Extent) -> Outcome<String> {
    let specials = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, nan_payload(), 3.0e38, 1e-40];
    let mut seen = 0;
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
        let scales: &[f32] =
            if extent == Extent::Quick { &[3.0] } else { &[1.0, 1024.0, 65536.0, 3.0, 1e-30] };
        for &scale in scales {
            for special in specials {
                for at in [0usize, 8191, 8192, 12_344] {
                    let mut x = vec![0.5; 12_345];
                    x[at] = special;
                    let grad = Grad::new(&x, dtype);
                    let stats = grad_stats_scalar(grad.floats(), (1.0 / f64::from(scale)) as f32);
                    let model = Simple::new(device, &[x.len()])?;
                    let grads = [grad.upload(device, 0)?];
                    let mut step = DeviceStep::new(device, &[0])?;
                    let mut scaler = scaler(device, scale)?;
                    let parameters = model.parameters(&grads);
                    let serial =
                        step.step(&parameters, &[SETTINGS], StepSettings::default(), Some(&mut scaler))?;
                    step.outcomes().wait()?;
                    let Some(outcome) = step.outcomes().poll(serial)? else { return wrong("no outcome") };
                    let norm = stats.sum_squares.sqrt() as f32;
                    let same_norm =
                        (outcome.grad_norm - norm).abs() <= 1e-6 * norm || outcome.grad_norm == norm;
                    if outcome.found_inf != stats.found_inf() || (!outcome.found_inf && !same_norm) {
                        let case = format!("{dtype:?}, scale {scale}, {special} at {at}");
                        return wrong(format!("{case}: {outcome:?}, the oracle says {stats:?}"));
                    }
                    seen += 1;
                }
            }
        }
    }
    Ok(format!("{seen} cases"))
}

fn skips(device: &Device) -> Outcome<String> {
    let sizes = [3usize, 8192, 10_000, 1];
    for special in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::from_bits(0xff81_2345)] {
        let model = Simple::new(device, &sizes)?;
        let before = model.bits()?;
        let mut grads: Vec<Tensor> =
            sizes.iter().map(|&len| Tensor::ones(len, DType::F32, device)).collect::<Result<_, _>>()?;
        let mut bad = vec![1f32; 10_000];
        bad[9_999] = special;
        grads[2] = Tensor::from_vec(bad, 10_000, device)?;
        let mut step = DeviceStep::new(device, &[5; 4])?;
        let mut scaler = scaler(device, 1024.0)?;
        let settings = StepSettings { max_norm: Some(1.0), clip_value: None };
        let serial = step.step(&model.parameters(&grads), &[SETTINGS], settings, Some(&mut scaler))?;
        scaler.update()?;
        if model.bits()? != before {
            return wrong(format!("{special}: a weight or moment changed"));
        }
        if step.wait_for_steps()? != [5; 4] {
            return wrong("a step count changed");
        }
        if step.wait_for_overflows()? != [0, 0, serial, 0] {
            return wrong(format!("overflows {:?}, serial {serial}", step.wait_for_overflows()?));
        }
        if scaler.wait_for_state()?.scale != 512.0 || scaler.latest()? != Some((512.0, 0)) {
            return wrong(format!("scale {:?}, news {:?}", scaler.wait_for_state()?, scaler.latest()?));
        }
        // The next, clean step is taken.
        grads[2] = Tensor::ones(10_000, DType::F32, device)?;
        step.step(&model.parameters(&grads), &[SETTINGS], settings, Some(&mut scaler))?;
        if step.wait_for_steps()? != [6; 4] || model.bits()? == before {
            return wrong("the clean step after it was not taken");
        }
    }
    Ok("weights, moments and counts unchanged to the bit; the parameter is named".into())
}

fn counts(device: &Device) -> Outcome<String> {
    let x: Vec<f64> =
        (0..20_000).map(|i| [0.0, -0.0, 1e-6, -3e-5, 1.0, f64::INFINITY, 1e-41, 7e-5][i % 8]).collect();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let grad = Grad::new(&x, dtype);
        let model = Simple::new(device, &[x.len()])?;
        let mut step = DeviceStep::new(device, &[0])?;
        step.start_counting()?;
        let mut scaler = scaler(device, 1.0)?;
        let grads = [grad.upload(device, 0)?];
        step.step(&model.parameters(&grads), &[SETTINGS], StepSettings::default(), Some(&mut scaler))?;
        let want = grad_stats_scalar(grad.floats(), 1.0);
        let got = step.wait_for_counts()?;
        if got != [[want.non_finite, want.zeros, want.subnormal]] {
            return wrong(format!("{dtype:?}: {got:?}, the oracle says {want:?}"));
        }
    }
    Ok("exact".into())
}

fn no_round_trip(device: &Device) -> Outcome<String> {
    let model = Simple::new(device, &[10_000, 7])?;
    let grads = [Tensor::ones(10_000, DType::F32, device)?, Tensor::ones(7, DType::F32, device)?];
    let fresh = [grads[0].copy()?, grads[1].copy()?];
    let mut step = DeviceStep::new(device, &[0; 2])?;
    let mut scaler = scaler(device, 1024.0)?;
    let settings = StepSettings { max_norm: Some(1.0), clip_value: None };
    let mut once = |grads: &[Tensor]| {
        step.step(&model.parameters(grads), &[SETTINGS], settings, Some(&mut scaler))?;
        scaler.update()
    };
    once(&grads)?;
    let candle = device.as_cuda_device()?;
    let steady = capture(candle, || once(&grads))?;
    let moved = capture(candle, || once(&fresh))?;
    if (steady.kernels, steady.host_to_device, steady.device_to_host, steady.other) != (3, 0, 0, 0) {
        return wrong(format!("a step with gradients where they were: {steady:?}"));
    }
    if (moved.kernels, moved.host_to_device, moved.device_to_host, moved.other) != (3, 1, 0, 0) {
        return wrong(format!("a step with gradients elsewhere: {moved:?}"));
    }
    Ok("3 kernels; 1 upload where gradients moved; 0 copies to the host".into())
}

fn refusals(device: &Device) -> Outcome<String> {
    let model = Simple::new(device, &[8])?;
    let mut step = DeviceStep::new(device, &[0])?;
    let mut refuse = |what: &str, grad: Tensor, change: fn(&mut DeviceParameter<'_>)| {
        let grads = [grad];
        let mut parameters = model.parameters(&grads);
        change(&mut parameters[0]);
        match step.step(&parameters, &[SETTINGS], StepSettings::default(), None) {
            Err(_) => Ok(()),
            Ok(_) => wrong(format!("{what} was taken")),
        }
    };
    let good = Tensor::ones(8, DType::F32, device)?;
    refuse("a gradient of another length", Tensor::ones(9, DType::F32, device)?, |_| {})?;
    refuse("an integer gradient", Tensor::ones(8, DType::U32, device)?, |_| {})?;
    refuse("a gradient on the CPU", Tensor::ones(8, DType::F32, &Device::Cpu)?, |_| {})?;
    refuse("a strided gradient", Tensor::ones((8, 2), DType::F32, device)?.narrow(1, 0, 1)?, |_| {})?;
    refuse("a slot that is not there", good.clone(), |p| p.slot = 1)?;
    refuse("a group that is not there", good.clone(), |p| p.group = 1)?;
    refuse("a missing moment", good.clone(), |p| p.moments[1] = None)?;
    refuse("stochastic rounding of f32", good, |p| p.write_back = DeviceWriteBack::Stochastic { seed: 0 })?;
    Ok("8 kinds of bad input are errors".into())
}

/// Indices above 2^32 bytes and 2^31 elements.
pub(super) fn more_than_u32(device: &Device) -> Outcome<String> {
    let len = (1usize << 31) + 8;
    let value = |i: usize| f16::from_f32(((i.wrapping_mul(2_654_435_761) >> 7) & 1023) as f32 / 1024.0);
    let host: Vec<f16> = (0..len).map(value).collect();
    let grad = Tensor::from_slice(&host, len, device)?;
    let weights = grad.copy()?;
    let first = Tensor::zeros(len, DType::F32, device)?;
    let second = Tensor::zeros(len, DType::F32, device)?;
    let parameter = DeviceParameter {
        slot: 0,
        group: 0,
        weights: &weights,
        grad: &grad,
        write_back: DeviceWriteBack::Nearest,
        moments: [Some(&first), Some(&second)],
    };
    let mut scaler = scaler(device, 1.0)?;
    let settings = StepSettings::default();
    DeviceStep::new(device, &[0])?.step(&[parameter], &[SETTINGS], settings, Some(&mut scaler))?;
    let rule = AdamW::<f32>::new(&Settings { step: 1, ..SETTINGS });
    for start in [0, (1 << 30) - 50, (1 << 31) - 95, len - 100] {
        let part = start..start + 100;
        let (mut w, mut m, mut v) = (host[part.clone()].to_vec(), vec![0f32; 100], vec![0f32; 100]);
        let oracle = Parameter {
            weights: &mut w,
            write_back: WriteBack::Nearest,
            grad: Floats::F16(&host[part]),
            first: &mut m,
            second: &mut v,
        };
        fused_step_scalar(oracle, &rule, &GradTransform::default())?;
        compare("weights", &w, &weights.narrow(0, start, 100)?.to_vec1::<f16>()?)?;
        compare("second moment", &v, &second.narrow(0, start, 100)?.to_vec1::<f32>()?)?;
    }
    Ok(format!("{len} elements"))
}
