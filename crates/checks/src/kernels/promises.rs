//! What a step promises beside its arithmetic: when it is taken, what it leaves alone, what it tells, what it refuses.

use super::Extent;
use super::data::{Grad, compare, nan_payload, scaler};
use super::step::SETTINGS;
use crate::report::{Outcome, Report, wrong};
use backends::Floats;
use backends::cuda::capture;
use backends::kernels::adamw::AdamW;
use backends::kernels::step::{
    Buffers, GradStats, GradTransform, OnNonFinite, Parameter, Scaling, Settings, State, Stepper, WriteBack,
    fused_step_scalar, grad_stats_scalar,
};
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
    states: Vec<State>,
}

impl Simple {
    fn new(device: &Device, sizes: &[usize]) -> Outcome<Self> {
        let full = |value: f32, len: usize| Tensor::full(value, len, device);
        let state = |len: usize| -> Outcome<State> {
            let moments = vec![full(0.25, len)?, full(0.125, len)?];
            Ok(State { moments, write_back: WriteBack::Nearest })
        };
        let weights = sizes.iter().map(|&len| full(0.5, len)).collect::<Result<_, _>>()?;
        Ok(Self { weights, states: sizes.iter().map(|&len| state(len)).collect::<Outcome<_>>()? })
    }

    fn parameters<'a>(&'a self, grads: &'a [Tensor]) -> Vec<Parameter<'a>> {
        let each = self.weights.iter().zip(grads).zip(&self.states).enumerate();
        each.map(|(slot, ((weights, grad), state))| Parameter { slot, group: 0, weights, grad, state })
            .collect()
    }

    fn bits(&self) -> Outcome<Vec<u32>> {
        let mut all = Vec::new();
        for tensor in self.weights.iter().chain(self.states.iter().flat_map(|state| &state.moments)) {
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
                    let mut stepper = Stepper::new(device, &[0], 0)?;
                    let mut scale = scaler(device, scale)?;
                    let (parameters, settings) = (model.parameters(&grads), Settings::default());
                    let scaling = Scaling::Carried(&mut scale);
                    let pending = stepper.step(&parameters, &[SETTINGS], &settings, scaling)?;
                    let Some(outcome) = pending.wait()? else { return wrong("no outcome") };
                    let Some(got) = outcome.grad_norm else { return wrong("no norm") };
                    let norm = f64::from(stats.sum_squares.sqrt() as f32);
                    let same_norm = (got - norm).abs() <= 1e-6 * norm || got == norm;
                    if outcome.found_inf != stats.found_inf() || (!outcome.found_inf && !same_norm) {
                        let case = format!("{dtype:?}, scale {scale:?}, {special} at {at}");
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
        let mut stepper = Stepper::new(device, &[5; 4], 5)?;
        let mut scale = scaler(device, 1024.0)?.counting();
        let settings = Settings { max_norm: Some(1.0), ..Default::default() };
        let scaling = Scaling::Carried(&mut scale);
        let pending = stepper.step(&model.parameters(&grads), &[SETTINGS], &settings, scaling)?;
        scale.update()?;
        if model.bits()? != before {
            return wrong(format!("{special}: a weight or moment changed"));
        }
        if stepper.wait_for_steps()? != (5, vec![5; 4]) {
            return wrong("a step count changed");
        }
        let seen = pending.wait_for_seen()?;
        if seen.as_ref().is_none_or(|seen| seen.non_finite != [2]) {
            return wrong(format!("{seen:?}, where slot 2 overflowed"));
        }
        if scale.wait_for_state()?.scale != 512.0 {
            return wrong(format!("scale {:?}", scale.wait_for_state()?));
        }
        // The next, clean step is taken.
        grads[2] = Tensor::ones(10_000, DType::F32, device)?;
        stepper.step(&model.parameters(&grads), &[SETTINGS], &settings, Scaling::Carried(&mut scale))?;
        if stepper.wait_for_steps()? != (6, vec![6; 4]) || model.bits()? == before {
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
        let mut stepper = Stepper::new(device, &[0], 0)?;
        let mut scale = scaler(device, 1.0)?.counting();
        let grads = [grad.upload(device, 0)?];
        let (parameters, scaling) = (model.parameters(&grads), Scaling::Carried(&mut scale));
        let pending = stepper.step(&parameters, &[SETTINGS], &Settings::default(), scaling)?;
        let want = grad_stats_scalar(grad.floats(), 1.0);
        let of = |s: &GradStats| (s.len, s.non_finite, s.zeros, s.subnormal);
        for seen in [pending.wait_for_seen()?, Some(scale.look(&[(0, &grads[0])])?)] {
            let got = seen.as_ref().map(|seen| of(&seen.total));
            if got != Some(of(&want)) {
                return wrong(format!("{dtype:?}: {seen:?}, the oracle says {want:?}"));
            }
        }
    }
    Ok("exact".into())
}

fn no_round_trip(device: &Device) -> Outcome<String> {
    let model = Simple::new(device, &[10_000, 7])?;
    let grads = [Tensor::ones(10_000, DType::F32, device)?, Tensor::ones(7, DType::F32, device)?];
    let fresh = [grads[0].copy()?, grads[1].copy()?];
    let mut stepper = Stepper::new(device, &[0; 2], 0)?;
    let mut scale = scaler(device, 1024.0)?;
    let settings = Settings { max_norm: Some(1.0), ..Default::default() };
    let mut once = |grads: &[Tensor]| {
        stepper.step(&model.parameters(grads), &[SETTINGS], &settings, Scaling::Carried(&mut scale))?;
        scale.update()
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
    let mut stepper = Stepper::new(device, &[0], 0)?;
    let mut refuse = |what: &str, settings: &Settings<'_>, parameter: Parameter<'_>| match stepper.step(
        &[parameter],
        &[SETTINGS],
        settings,
        Scaling::None,
    ) {
        Err(_) => Ok(()),
        Ok(_) => wrong(format!("{what} was taken")),
    };
    let plain = Settings::default();
    let ones = |len: usize, dtype: DType, device: &Device| Tensor::ones(len, dtype, device);
    let good = [ones(8, DType::F32, device)?];
    let p = model.parameters(&good)[0];
    refuse("a gradient of another length", &plain, Parameter { grad: &ones(9, DType::F32, device)?, ..p })?;
    refuse("an integer gradient", &plain, Parameter { grad: &ones(8, DType::U32, device)?, ..p })?;
    refuse("a gradient on the CPU", &plain, Parameter { grad: &ones(8, DType::F32, &Device::Cpu)?, ..p })?;
    let strided = Tensor::ones((8, 2), DType::F32, device)?.narrow(1, 0, 1)?;
    refuse("a strided gradient", &plain, Parameter { grad: &strided, ..p })?;
    refuse("a slot that is not there", &plain, Parameter { slot: 1, ..p })?;
    refuse("a group that is not there", &plain, Parameter { group: 1, ..p })?;
    let one_moment = State { moments: p.state.moments[..1].to_vec(), ..p.state.clone() };
    refuse("a missing moment", &plain, Parameter { state: &one_moment, ..p })?;
    let stochastic = State { write_back: WriteBack::Stochastic { key: 0 }, ..p.state.clone() };
    refuse("stochastic rounding of f32", &plain, Parameter { state: &stochastic, ..p })?;
    let (infinite, before) = (Tensor::full(f32::INFINITY, 8, device)?, model.bits()?);
    let refuses = Settings { on_non_finite: OnNonFinite::Refuse, ..Default::default() };
    refuse("an infinite gradient, where that is an error", &refuses, Parameter { grad: &infinite, ..p })?;
    if model.bits()? != before || stepper.wait_for_steps()? != (0, vec![0]) {
        return wrong("what was refused changed something");
    }
    Ok("9 kinds of bad input are errors and change nothing".into())
}

/// Indices above 2^32 bytes and 2^31 elements.
pub(super) fn more_than_u32(device: &Device) -> Outcome<String> {
    let len = (1usize << 31) + 8;
    let value = |i: usize| f16::from_f32(((i.wrapping_mul(2_654_435_761) >> 7) & 1023) as f32 / 1024.0);
    let host: Vec<f16> = (0..len).map(value).collect();
    let grad = Tensor::from_slice(&host, len, device)?;
    let weights = grad.copy()?;
    let zeros = || Tensor::zeros(len, DType::F32, device);
    let state = State { moments: vec![zeros()?, zeros()?], write_back: WriteBack::Nearest };
    let parameter = Parameter { slot: 0, group: 0, weights: &weights, grad: &grad, state: &state };
    let mut scale = scaler(device, 1.0)?;
    let (settings, scaling) = (Settings::default(), Scaling::Carried(&mut scale));
    Stepper::new(device, &[0], 0)?.step(&[parameter], &[SETTINGS], &settings, scaling)?;
    let rule = AdamW::<f32>::new(&SETTINGS, 1);
    for start in [0, (1 << 30) - 50, (1 << 31) - 95, len - 100] {
        let part = start..start + 100;
        let (mut w, mut m, mut v) = (host[part.clone()].to_vec(), vec![0f32; 100], vec![0f32; 100]);
        let oracle = Buffers {
            weights: &mut w,
            write_back: WriteBack::Nearest,
            grad: Floats::F16(&host[part]),
            first: &mut m,
            second: &mut v,
        };
        fused_step_scalar(oracle, &rule, &GradTransform::default())?;
        compare("weights", &w, &weights.narrow(0, start, 100)?.to_vec1::<f16>()?)?;
        compare("second moment", &v, &state.moments[1].narrow(0, start, 100)?.to_vec1::<f32>()?)?;
    }
    Ok(format!("{len} elements"))
}
