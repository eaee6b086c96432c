//! The oracle: the exact conversions of `precision-types`, one element after another.

use half::{bf16, f16};

/// The nearest f16 of each element.
pub fn cast_f64_f16_scalar(src: &[f64]) -> Vec<f16> {
    src.iter().map(|&x| precision_types::f16_from_f64(x)).collect()
}

/// The nearest bf16 of each element.
pub fn cast_f64_bf16_scalar(src: &[f64]) -> Vec<bf16> {
    src.iter().map(|&x| precision_types::bf16_from_f64(x)).collect()
}
