//! The catalogue of differentiable ops and the two checks that each of them has to pass, on either device.
//!
//! # Panics
//! All of it panics where an op does not keep what it promises, as a test does.
#![allow(clippy::unwrap_used, reason = "this is all test code")]

pub mod cases_arithmetic;
pub mod cases_attention;
pub mod cases_conv;
pub mod cases_losses;
pub mod cases_norms;
pub mod cases_pointwise;
pub mod cases_products;
pub mod cases_reductions;
pub mod check;
pub mod functions;
pub mod op_calls;
pub mod pointwise;
pub mod samples;
pub mod zero_sizes;

use autocast::Result;
use candle_core::Tensor;
pub use samples::Samples;

/// One op with inputs on which its gradient exists.
pub struct OpCase {
    /// PyTorch's name of the op, with its variant where it has several.
    pub name: &'static str,
    /// Inputs in f64. Those that are floats are differentiated, integers are not.
    pub inputs: fn(&mut Samples) -> Vec<Tensor>,
    /// The op.
    pub run: fn(&[Tensor]) -> Result<Tensor>,
    /// How many times a 16-bit result is rounded on its way: 1 for an op that computes in f32 and rounds at its end.
    pub roundings: u32,
}

impl OpCase {
    /// An op that rounds once.
    pub const fn new(
        name: &'static str,
        inputs: fn(&mut Samples) -> Vec<Tensor>,
        run: fn(&[Tensor]) -> Result<Tensor>,
    ) -> Self {
        Self { name, inputs, run, roundings: 1 }
    }

    /// The same with `roundings` roundings.
    pub const fn rounding(self, roundings: u32) -> Self {
        Self { roundings, ..self }
    }
}

/// The whole catalogue.
pub const CATALOGUE: [&[OpCase]; 8] = [
    cases_arithmetic::CASES,
    cases_attention::CASES,
    cases_conv::CASES,
    cases_losses::CASES,
    cases_norms::CASES,
    cases_pointwise::CASES,
    cases_products::CASES,
    cases_reductions::CASES,
];
