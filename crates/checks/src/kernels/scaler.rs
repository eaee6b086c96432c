//! The loss scale on the device against its state machine.

use crate::report::{Outcome, Report, wrong};
use backends::kernels::adamw::{Decay, Settings};
use backends::kernels::loss_scale::LossScale;
use backends::kernels::step::{self, Parameter, Scaling, State, Stepper, WriteBack};
use candle_core::{Device, Tensor};
use grad_scaler::{Refill, ScaleState, ScalerConfig};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(super) fn run(device: &Device, report: &mut Report) {
    report.check("scaler: PyTorch's rule, random sequences", || {
        let mut checked = 0;
        for (init, interval) in
            [(65536.0, 3), (1.0, 1), (2f64.powi(40), 10), (2f64.powi(126), 2), (1.5e-44, 2), (0.1, 4)]
        {
            checked += follow(
                device,
                &ScalerConfig {
                    init_scale: init,
                    growth_factor: 1.7,
                    backoff_factor: 0.3,
                    growth_interval: interval,
                    ..Default::default()
                },
            )?;
            checked += follow(
                device,
                &ScalerConfig { init_scale: init, growth_interval: interval, ..Default::default() },
            )?;
        }
        Ok(format!("{checked} updates bit-exact"))
    });
    report.check("scaler: bounds, hysteresis, static scale", || {
        let base = || ScalerConfig { init_scale: 1024.0, growth_interval: 3, ..Default::default() };
        let bounded = ScalerConfig { min_scale: Some(256.0), max_scale: Some(4096.0), ..base() };
        let mut checked = follow(device, &bounded)?;
        for (hysteresis, refill) in [(3, Refill::OnGrowth), (2, Refill::OnCleanStep)] {
            checked += follow(device, &ScalerConfig { hysteresis, refill, ..base() })?;
        }
        checked += follow(device, &ScalerConfig { init_scale: 128.0, is_static: true, ..base() })?;
        Ok(format!("{checked} updates bit-exact"))
    });
}

/// 120 updates, each after a step whose gradient is finite or not at random.
fn follow(device: &Device, config: &ScalerConfig) -> Outcome<usize> {
    let mut want = ScaleState::new(config);
    let mut scale = LossScale::new(*config, want, device)?;
    let mut stepper = Stepper::new(device, &[0], 0)?;
    let tensor = |value: f32| Tensor::full(value, 4, device);
    let weights = tensor(1.0)?;
    let state = State { moments: vec![tensor(0.0)?, tensor(0.0)?], write_back: WriteBack::Nearest };
    let (clean, infinite) = (tensor(0.0)?, tensor(f32::INFINITY)?);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let adamw = Settings { lr: 1e-3, betas: (0.9, 0.999), eps: 1e-8, decay: Decay::Decoupled(0.0) };
    for update in 0..120 {
        let found_inf = rng.random_bool(0.25);
        let parameter = Parameter {
            slot: 0,
            group: 0,
            weights: &weights,
            grad: if found_inf { &infinite } else { &clean },
            state: &state,
        };
        // A scale so small that its inverse overflows makes 0 * inf of a clean gradient, on every device.
        let found_inf = found_inf || !want.inv_scale().is_finite();
        stepper.step(&[parameter], &[adamw], &step::Settings::default(), Scaling::Carried(&mut scale))?;
        scale.update()?;
        want = want.update(found_inf, config);
        let got = scale.wait_for_state()?;
        if got.scale.to_bits() != want.scale.to_bits() || got != want {
            return wrong(format!("update {update} of {config:?}: {got:?}, the state machine says {want:?}"));
        }
    }
    Ok(120)
}
