//! Training on a GPU: the reference model against the losses and loss scales that PyTorch recorded, and many seeds.

use grad_scaler::ScalerConfig;
use trainer::Accelerator::Gpu;

use crate::models::reference::{STEPS, landing_error, recorded, train, worst_error};
use crate::models::survival::{SEEDS, first_failure};
use crate::report::{Outcome, Report, wrong};

pub(super) fn run(report: &mut Report) {
    for (precision, tolerance) in [("32-true", 2e-5), ("64-true", 5e-8), ("bf16-mixed", 5e-3)] {
        let name = format!("tiny_gpt {precision}: 60 losses within {tolerance:e}");
        report.check(&name, || {
            let losses = train(precision, Gpu, None)?.losses;
            within(worst_error(&losses, &recorded(Gpu, precision).loss), tolerance)
        });
    }
    for (precision, tolerance) in [("16-true", 2e-2), ("bf16-true", 1e-2)] {
        let name = format!("tiny_gpt {precision}: lands within {tolerance} of 32-true");
        report.check(&name, || within(landing_error(&train(precision, Gpu, None)?.losses, Gpu), tolerance));
    }
    for (run, init_scale) in [("16-mixed", 2f64.powi(16)), ("16-mixed@2^40", 2f64.powi(40))] {
        report.check(&format!("tiny_gpt {run}: losses until a skip, and every scale"), || {
            mixed(run, init_scale)
        });
    }
    for precision in ["16-mixed", "bf16-mixed", "16-true", "bf16-true"] {
        report.check(&format!("{precision} survives {SEEDS} seeds"), || {
            match first_failure(precision, Gpu)? {
                None => Ok("every loss finite, and smaller at the end".into()),
                Some((seed, losses)) => wrong(format!("seed {seed}: {losses:?}")),
            }
        });
    }
}

fn within(error: f64, tolerance: f64) -> Outcome<String> {
    let seen = format!("off by at most {error:.2e}");
    if error <= tolerance { Ok(seen) } else { wrong(seen) }
}

fn mixed(run: &str, init_scale: f64) -> Outcome<String> {
    let recorded = recorded(Gpu, run);
    let trained =
        train("16-mixed", Gpu, Some(ScalerConfig { init_scale, growth_interval: 10, ..Default::default() }))?;
    if let Some(step) = (0..STEPS).find(|&step| trained.scales[step] != recorded.scale_after_step[step]) {
        let (got, want) = (trained.scales[step], recorded.scale_after_step[step]);
        return wrong(format!("scale {got} after step {step}, recorded {want}"));
    }
    // A scale that shrank tells of a skip; up to it, the losses depend on the arithmetic alone.
    let before = std::iter::once(&init_scale).chain(&recorded.scale_after_step);
    let skip = before.zip(&recorded.scale_after_step).position(|(before, after)| after < before);
    let compared = skip.map_or(STEPS, |step| step + 1);
    let losses = within(worst_error(&trained.losses[..compared], &recorded.loss[..compared]), 5e-3)?;
    Ok(format!("{compared} losses {losses}, {STEPS} scales equal"))
}
