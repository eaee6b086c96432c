//! Memory over time: what the device has given out, and the heap, do not depend on how many steps were taken.

use candle_core::{Device, Tensor};
use trainer::{Precision, Trainer};

use crate::device::memory_in_use;
use crate::models::wide_layer::WideLayer;
use crate::report::{Outcome, Report, wrong};

/// By then every buffer that a step needs exists, and the pool has settled.
const EARLY: usize = 1_000;

/// Steps of each fit.
const STEPS: usize = 20_000;

pub(super) fn run(device: &Device, report: &mut Report) {
    for precision in Precision::ALL {
        report.check(&format!("memory over {STEPS} steps at {precision}"), || constant(device, precision));
    }
}

fn constant(device: &Device, precision: Precision) -> Outcome<String> {
    let trainer = Trainer::builder().precision(precision).accelerator("gpu").max_steps(STEPS).build()?;
    let x = Tensor::randn(0f32, 1f32, (256, 1024), device)?;
    let batches = std::iter::repeat((x.clone(), x));
    let mut in_use = Vec::new();
    trainer.fit_with(&WideLayer, batches, |step| {
        if step.number() == EARLY || step.is_last() {
            device.synchronize()?;
            in_use.push(memory_in_use(device)?);
        } else if step.number() % EARLY == 0 {
            in_use.push(memory_in_use(device)?);
        }
        Ok(())
    })?;
    let most = in_use.iter().copied().max().unwrap_or_default();
    // The host runs ahead of the device by a bounded number of steps, whose batches and results are alive at once.
    if most > in_use[0] + (64 << 20) {
        return wrong(format!(
            "{:?} MiB in use after every {EARLY} steps",
            in_use.iter().map(|b| b >> 20).collect::<Vec<_>>()
        ));
    }
    Ok(format!("{} to {} MiB", in_use[0] >> 20, most >> 20))
}
