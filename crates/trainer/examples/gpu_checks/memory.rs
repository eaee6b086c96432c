//! Memory over time: what the device has given out, and the heap, do not depend on how many steps were taken.

use candle_core::{Device, Tensor};
use trainer::{Precision, Trainer};

use crate::module::wide_layer;
use crate::report::{Outcome, Report, wrong};

/// By then every buffer that a step needs exists, and the pool has settled.
const EARLY: usize = 1_000;

pub(crate) fn run(device: &Device, report: &mut Report, steps: usize) {
    for precision in Precision::ALL {
        report.check(&format!("memory over {steps} steps at {precision}"), || {
            constant(device, precision, steps)
        });
    }
}

fn constant(device: &Device, precision: Precision, steps: usize) -> Outcome<String> {
    let trainer = Trainer::builder().precision(precision).accelerator("gpu").max_steps(steps).build()?;
    let x = Tensor::randn(0f32, 1f32, (256, 1024), device)?;
    let batches = std::iter::repeat((x.clone(), x));
    let mut in_use = Vec::new();
    trainer.fit_with(&mut wide_layer(), batches, |step| {
        if step.number() == EARLY || step.is_last() {
            device.synchronize()?;
            in_use.push(used(device)?);
        } else if step.number() % EARLY == 0 {
            in_use.push(used(device)?);
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

/// What the driver says is in use on the whole device.
fn used(device: &Device) -> trainer::Result<u64> {
    let _ = device.as_cuda_device()?;
    let (free, total) = candle_core::cuda_backend::cudarc::driver::result::mem_get_info()
        .map_err(|error| trainer::Error::Other(error.into()))?;
    Ok((total - free) as u64)
}
