//! The oracle.

use super::Binary;

/// The operation on two numbers, rounded to f64. Rounded to f32, it is what f32 has for two numbers of f32.
pub fn binary_scalar(of: Binary, a: f64, b: f64) -> f64 {
    match of {
        Binary::Plus => a + b,
        Binary::Minus => a - b,
        Binary::Times => a * b,
        Binary::Over => a / b,
    }
}
