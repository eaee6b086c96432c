//! The fused step on the device against the scalar oracle: every storage type, write-back and gradient type, and the
//! shapes and values that break kernels.

use super::Extent;
use super::data::{Grad, compare, download, round, scaler, upload, values};
use crate::report::{Outcome, Report, wrong};
use backends::kernels::adamw::{AdamW, Decay, Settings};
use backends::kernels::step::{
    self, Buffers, GradTransform, Parameter, Rule, Scaling, State, Stepper, WriteBack, fused_step_scalar,
    grad_stats_scalar, key,
};
use backends::{Real, Store};
use candle_core::{DType, Device, Tensor, WithDType};
use half::{bf16, f16};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

pub(super) const SETTINGS: Settings =
    Settings { lr: 1e-2, betas: (0.9, 0.95), eps: 1e-8, decay: Decay::Decoupled(0.1) };
const ADAM: Settings = Settings { lr: 1e-2, betas: (0.4, 0.999), eps: 1e-8, decay: Decay::L2(0.1) };

pub(super) fn run(device: &Device, report: &mut Report, extent: Extent) {
    use Keep::{Kahan, Master, Nearest, Stochastic};
    let sizes = [0usize, 1, 3, 4, 5, 67, 8191, 8192, 8193, 20_000];
    for grad in [DType::F32, DType::F16, DType::BF16, DType::F64] {
        let g = grad.as_str();
        let mut one = |name: String, case: Case<'_>, check: fn(&Device, &Case<'_>) -> Outcome<String>| {
            report.check(&name, || check(device, &case));
        };
        let case = |keep| Case {
            sizes: &sizes,
            grad,
            keep,
            offset: 0,
            settings: SETTINGS,
            max_norm: None,
            limit: None,
        };
        one(format!("adamw f32, {g} gradients"), case(Nearest), adamw::<f32, f32>);
        one(format!("adamw f64, {g} gradients"), case(Nearest), adamw::<f64, f64>);
        one(format!("adamw f16 with master, {g} gradients"), case(Master), adamw::<f16, f32>);
        one(format!("adamw bf16 with master, {g} gradients"), case(Master), adamw::<bf16, f32>);
        one(format!("adamw f16 to nearest, {g} gradients"), case(Nearest), adamw::<f16, f32>);
        one(format!("adamw f16 with Kahan, {g} gradients"), case(Kahan), adamw::<f16, f32>);
        one(format!("adamw bf16 with Kahan, {g} gradients"), case(Kahan), adamw::<bf16, f32>);
        one(format!("adamw f16 stochastic, {g} gradients"), case(Stochastic), adamw::<f16, f32>);
        one(format!("adamw bf16 stochastic, {g} gradients"), case(Stochastic), adamw::<bf16, f32>);
    }
    let plain = Case {
        sizes: &sizes,
        grad: DType::F32,
        keep: Nearest,
        offset: 0,
        settings: SETTINGS,
        max_norm: None,
        limit: None,
    };
    let many = if extent == Extent::Quick { 50 } else { 5000 };
    let tiny = vec![7usize; many];
    let large = if extent == Extent::Quick { 50_001 } else { 5_000_001 };
    report.check("adamw f32, misaligned tensors", || adamw::<f32, f32>(device, &Case { offset: 1, ..plain }));
    report.check("adamw bf16 with master, misaligned tensors", || {
        adamw::<bf16, f32>(device, &Case { offset: 3, keep: Master, grad: DType::BF16, ..plain })
    });
    report
        .check("adam with L2, small beta1", || adamw::<f32, f32>(device, &Case { settings: ADAM, ..plain }));
    report.check("adamw f32, clipped by norm", || {
        adamw::<f32, f32>(device, &Case { max_norm: Some(0.5), ..plain })
    });
    report.check("adamw f32, clipped by value", || {
        adamw::<f32, f32>(device, &Case { limit: Some(1e-3), ..plain })
    });
    report.check("adamw f32, thousands of tensors of 7", || {
        adamw::<f32, f32>(device, &Case { sizes: &tiny, ..plain })
    });
    report.check("adamw f32, one tensor of millions", || {
        adamw::<f32, f32>(device, &Case { sizes: &[large], ..plain })
    });
    report.check("weights of all types in one step", || mixed_types(device));
}

#[derive(Clone, Copy, PartialEq)]
enum Keep {
    Nearest,
    Master,
    Kahan,
    Stochastic,
}

#[derive(Clone, Copy)]
struct Case<'a> {
    sizes: &'a [usize],
    grad: DType,
    keep: Keep,
    /// Elements before each tensor in its storage.
    offset: usize,
    settings: Settings,
    max_norm: Option<f64>,
    limit: Option<f64>,
}

const SEED: u64 = 7;
const INV_SCALE: f32 = 1.0 / 1024.0;

struct Host<T, A> {
    weights: Vec<T>,
    master: Vec<A>,
    lost: Vec<T>,
    first: Vec<A>,
    second: Vec<A>,
}

struct OnDevice {
    weights: Tensor,
    state: State,
}

fn start<T, A>(
    device: &Device,
    rng: &mut ChaCha8Rng,
    len: usize,
    case: &Case<'_>,
) -> Outcome<(Host<T, A>, OnDevice)>
where
    T: Store<A> + WithDType,
    A: Real + Store<A> + WithDType,
{
    let weights: Vec<T> = round::<T, A>(&values(rng, len, &[0.0, -0.0, 3e-39, -6e-8]));
    let mut master = vec![A::ZERO; len];
    A::load(T::floats(&weights), &mut master);
    let host = Host {
        lost: vec![T::default(); len],
        first: vec![A::ZERO; len],
        second: vec![A::ZERO; len],
        master,
        weights,
    };
    let write_back = match case.keep {
        Keep::Nearest => WriteBack::Nearest,
        Keep::Master => WriteBack::Master(upload(device, &host.master, case.offset)?),
        Keep::Kahan => WriteBack::Kahan(upload(device, &host.lost, case.offset)?),
        Keep::Stochastic => WriteBack::Stochastic { key: SEED },
    };
    let moments = vec![upload(device, &host.first, case.offset)?, upload(device, &host.second, case.offset)?];
    let weights = upload(device, &host.weights, case.offset)?;
    let on_device = OnDevice { weights, state: State { moments, write_back } };
    Ok((host, on_device))
}

/// Three steps, compared after each.
fn adamw<T, A>(device: &Device, case: &Case<'_>) -> Outcome<String>
where
    T: Store<A> + WithDType,
    A: Real + Store<A> + WithDType,
    AdamW<A>: Rule<A>,
{
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut both = Vec::new();
    for &len in case.sizes {
        both.push(start::<T, A>(device, &mut rng, len, case)?);
    }
    let mut stepper = Stepper::new(device, &vec![0; both.len()], 0)?;
    let mut scale = scaler(device, 1.0 / INV_SCALE)?;
    let mut worst = 0.0f64;
    let mut inexact = 0usize;
    for nth in 1..=3u64 {
        let tiny = [0.0, -0.0, 1e-40, 6e-8, -1e-45, 60000.0];
        let grads: Vec<Grad> = both
            .iter()
            .map(|(host, _)| Grad::new(&values(&mut rng, host.weights.len(), &tiny), case.grad))
            .collect();
        let on_device: Vec<Tensor> =
            grads.iter().map(|grad| grad.upload(device, case.offset)).collect::<Outcome<_>>()?;
        let parameters: Vec<Parameter<'_>> = both
            .iter()
            .zip(&on_device)
            .enumerate()
            .map(|(slot, ((_, d), grad))| Parameter {
                slot,
                group: 0,
                weights: &d.weights,
                grad,
                state: &d.state,
            })
            .collect();
        let settings =
            step::Settings { max_norm: case.max_norm, clip_value: case.limit, ..Default::default() };
        let pending = stepper.step(&parameters, &[case.settings], &settings, Scaling::Carried(&mut scale))?;
        let sum: f64 = grads.iter().map(|grad| grad_stats_scalar(grad.floats(), INV_SCALE).sum_squares).sum();
        let clip_coef = case.max_norm.map_or(1.0, |max| (max / (sum.sqrt() + 1e-6)).min(1.0));
        let transform = GradTransform { inv_scale: INV_SCALE, clip_coef, clip_value: case.limit };
        let rule = AdamW::<A>::new(&case.settings, nth);
        for (index, ((host, _), grad)) in both.iter_mut().zip(&grads).enumerate() {
            let write_back = match case.keep {
                Keep::Nearest => WriteBack::Nearest,
                Keep::Master => WriteBack::Master(&mut host.master[..]),
                Keep::Kahan => WriteBack::Kahan(&mut host.lost[..]),
                Keep::Stochastic => WriteBack::Stochastic { key: key(SEED, index, nth) },
            };
            let buffers = Buffers {
                weights: &mut host.weights,
                write_back,
                grad: grad.floats(),
                first: &mut host.first,
                second: &mut host.second,
            };
            fused_step_scalar(buffers, &rule, &transform)?;
        }
        for (host, d) in &both {
            let pairs = [
                compare("weights", &host.weights, &download::<T>(&d.weights)?)?,
                compare("first moment", &host.first, &download::<A>(&d.state.moments[0])?)?,
                compare("second moment", &host.second, &download::<A>(&d.state.moments[1])?)?,
                match &d.state.write_back {
                    WriteBack::Master(kept) => compare("master", &host.master, &download::<A>(kept)?)?,
                    WriteBack::Kahan(kept) => compare("compensation", &host.lost, &download::<T>(kept)?)?,
                    WriteBack::Nearest | WriteBack::Stochastic { .. } => (0, 0.0),
                },
            ];
            for (differ, error) in pairs {
                inexact += differ;
                worst = worst.max(error);
            }
        }
        let Some(outcome) = pending.wait()? else { return wrong("no outcome came") };
        let Some(norm) = outcome.grad_norm else { return wrong("the norm was not taken") };
        if outcome.found_inf
            || outcome.applied_before != nth - 1
            || (norm - sum.sqrt()).abs() > 1e-6 * sum.sqrt()
        {
            return wrong(format!("outcome {outcome:?}, norm should be {}", sum.sqrt()));
        }
    }
    // Constants go through `pow`, whose last bit is the library's own.
    if worst > 2.0 {
        return wrong(format!("{worst:.1} units in the last place apart"));
    }
    Ok(format!("{inexact} values not bit-exact, worst {worst:.2} ulp"))
}

fn mixed_types(device: &Device) -> Outcome<String> {
    let dtypes = [DType::BF16, DType::F32, DType::F64, DType::F16, DType::F32];
    let ones = |dtype: DType| Tensor::ones(9000, dtype, device);
    let wide = |dtype: DType| if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let mut held = Vec::new();
    for dtype in dtypes {
        let moment = Tensor::zeros(9000, wide(dtype), device)?;
        let state = State { moments: vec![moment.copy()?, moment], write_back: WriteBack::Nearest };
        held.push((ones(dtype)?, ones(dtype)?, state));
    }
    let parameters: Vec<_> = held
        .iter()
        .enumerate()
        .map(|(slot, (weights, grad, state))| Parameter { slot, group: slot % 2, weights, grad, state })
        .collect();
    let groups = [SETTINGS, Settings { lr: 0.5, ..SETTINGS }];
    Stepper::new(device, &[0; 5], 0)?.step(
        &parameters,
        &groups,
        &step::Settings::default(),
        Scaling::None,
    )?;
    for (slot, p) in parameters.iter().enumerate() {
        let lr = groups[slot % 2].lr;
        // At the first step the update is lr, whatever the gradient.
        let want = 1.0 - lr * 0.1 - lr;
        let got = p.weights.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        if let Some(bad) = got.iter().find(|&&x| (x - want).abs() > 4e-3) {
            return wrong(format!("{:?}: {bad}, not {want}", p.weights.dtype()));
        }
    }
    Ok("5 parameters, 4 types, 2 groups".into())
}
