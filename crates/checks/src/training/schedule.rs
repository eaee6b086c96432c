//! Rates that the device looks up by its own count of applied steps, against the CPU, whenever the host hears of skips.

use crate::report::{Outcome, Report, wrong};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use grad_scaler::GradScaler;
use optim::{AdamWConfig, Fused, Group, LionConfig, Momentum, Optimizer, Rule, Schedule, SgdConfig};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

pub(super) fn run(device: &Device, report: &mut Report) {
    let momentum = Momentum::Nesterov { momentum: 0.9 };
    let sgd = SgdConfig { weight_decay: 0.1, ..Default::default() };
    report.check("schedule: sgd, skips heard of at random", || agrees(device, &sgd, Exactness::ToTheBit));
    report.check("schedule: sgd with momentum", || {
        agrees(device, &SgdConfig { momentum, ..sgd }, Exactness::ToTheBit)
    });
    report.check("schedule: lion", || agrees(device, &LionConfig::default(), Exactness::ToTheBit));
    report.check("schedule: adamw", || agrees(device, &AdamWConfig::default(), Exactness::BesidePow));
    report.check("schedule: more steps than one upload holds", || long(device));
}

/// AdamW's constants go through `pow`, whose last bit is the library's own.
#[derive(Clone, Copy, PartialEq)]
enum Exactness {
    ToTheBit,
    BesidePow,
}

const SIZES: [usize; 3] = [5, 300, 9000];

/// What the host does between steps.
enum Host {
    AsksForEveryRate,
    DoesAnything(u64),
    GoesOn,
}

/// The parameters after `steps` steps, every `n`-th and the first three of which are skipped, and the rates asked for.
fn train<R: Rule>(
    device: &Device,
    rule: &R,
    steps: usize,
    host: &Host,
) -> Outcome<(Vec<Vec<f64>>, Vec<f64>)> {
    let schedule = Schedule::one_cycle(0.01, steps as u64 * 2 / 3)?.with_warmup(10);
    let start = |len: usize| -> Outcome<Var> {
        let values: Vec<f64> = (0..len).map(|i| ((i * 7919 + 13) % 2001) as f64 / 1e3 - 1.0).collect();
        Ok(Var::from_tensor(&Tensor::new(values, &Device::Cpu)?.to_dtype(DType::F32)?.to_device(device)?)?)
    };
    let vars: Vec<Var> = SIZES.into_iter().map(start).collect::<Outcome<_>>()?;
    let named = vars.iter().enumerate().map(|(i, var)| (format!("p{i}"), var.clone()));
    let group = Group { lr_scale: 0.3, ..Group::no_decay() };
    let mut optimizer =
        Fused::new(named, rule.clone())?.with_group(group, |name| name == "p1")?.with_schedule(schedule);
    let mut scaler = GradScaler::skipping(device)?;
    let mut rng = ChaCha8Rng::seed_from_u64(if let Host::DoesAnything(seed) = host { *seed } else { 0 });
    let mut rates = Vec::new();
    for step in 0..steps {
        let mut grads = GradStore::default();
        for (i, var) in vars.iter().enumerate() {
            let bad = i == 1 && (step < 3 || step % 7 == 0);
            let value = if bad { f32::NAN } else { ((step * 31 + i * 17) % 101) as f32 / 50.0 - 1.0 };
            grads.insert(var, Tensor::full(value, var.shape(), device)?);
        }
        scaler.step(&mut optimizer, &grads)?;
        scaler.update()?;
        match host {
            Host::AsksForEveryRate => rates.push(optimizer.last_learning_rate()?),
            Host::DoesAnything(_) => match rng.random_range(0..6) {
                0 => device.synchronize()?,
                1 => std::thread::sleep(Duration::from_micros(rng.random_range(0..500))),
                2 => rates.extend([optimizer.learning_rate(), optimizer.steps()?.applied as f64]),
                _ => {}
            },
            Host::GoesOn => {}
        }
    }
    let flat = |var: &Var| -> Outcome<Vec<f64>> {
        Ok(var.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1::<f64>()?)
    };
    Ok((vars.iter().map(flat).collect::<Outcome<_>>()?, rates))
}

fn agrees<R: Rule>(device: &Device, rule: &R, exactness: Exactness) -> Outcome<String> {
    const STEPS: usize = 60;
    let (want, want_rates) = train(&Device::Cpu, rule, STEPS, &Host::AsksForEveryRate)?;
    let (first, rates) = train(device, rule, STEPS, &Host::AsksForEveryRate)?;
    if rates != want_rates {
        return wrong(format!("the rates are {rates:?}, on the CPU {want_rates:?}"));
    }
    if exactness == Exactness::ToTheBit && first != want {
        return wrong("the parameters are not the CPU's");
    }
    for seed in 0..20 {
        if train(device, rule, STEPS, &Host::DoesAnything(seed))?.0 != first {
            return wrong(format!("run {seed} ended elsewhere"));
        }
    }
    if train(device, rule, STEPS, &Host::GoesOn)?.0 != first {
        return wrong("a host that never asks ended elsewhere");
    }
    Ok(format!("{STEPS} rates, 22 runs bit-equal"))
}

fn long(device: &Device) -> Outcome<String> {
    let rule = SgdConfig::default();
    let steps = 3000;
    let (want, _) = train(&Device::Cpu, &rule, steps, &Host::GoesOn)?;
    for host in [Host::GoesOn, Host::DoesAnything(1)] {
        if train(device, &rule, steps, &host)?.0 != want {
            return wrong("the parameters are not the CPU's");
        }
    }
    Ok(format!("{steps} steps bit-exact"))
}
