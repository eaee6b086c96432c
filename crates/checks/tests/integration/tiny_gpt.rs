//! On a CPU, the reference model follows the losses that PyTorch recorded, or lands where 32-true does.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use checks::models::reference::{landing_error, recorded, train, worst_error};
use trainer::Accelerator::Cpu;

/// Every loss is within `tolerance` of the recorded one, relative to it.
#[track_caller]
fn check_follows(precision: &str, tolerance: f64) {
    let losses = train(precision, Cpu, None).unwrap().losses;
    assert_eq!(losses.len(), checks::models::reference::STEPS);
    let worst = worst_error(&losses, &recorded(Cpu, precision).loss);
    assert!(worst <= tolerance, "{precision}: off by {worst:.2e}");
}

/// All losses are finite, and the last ones within `tolerance` of those recorded for 32-true.
#[track_caller]
fn check_lands(precision: &str, tolerance: f64) {
    let error = landing_error(&train(precision, Cpu, None).unwrap().losses, Cpu);
    assert!(error <= tolerance, "{precision}: off by {error:.2e}");
}

#[test]
fn f32_true_follows_the_recorded_losses() {
    check_follows("32-true", 2e-5);
}

#[test]
fn f64_true_follows_the_recorded_losses() {
    check_follows("64-true", 5e-8);
}

#[test]
fn bf16_mixed_follows_the_recorded_losses() {
    check_follows("bf16-mixed", 5e-3);
}

#[test]
fn f16_true_lands_where_f32_does() {
    check_lands("16-true", 2e-2);
}

#[test]
fn bf16_true_lands_where_f32_does() {
    check_lands("bf16-true", 1e-2);
}
