//! 16-bit training survives: from 200 random seeds, losses stay finite and get smaller at every 16-bit precision of a CPU.

use checks::models::survival::first_failure;
use trainer::Accelerator::Cpu;

#[test]
fn f16_true_survives() {
    assert_eq!(first_failure("16-true", Cpu).unwrap(), None);
}

#[test]
fn bf16_true_survives() {
    assert_eq!(first_failure("bf16-true", Cpu).unwrap(), None);
}

#[test]
fn bf16_mixed_survives() {
    assert_eq!(first_failure("bf16-mixed", Cpu).unwrap(), None);
}
