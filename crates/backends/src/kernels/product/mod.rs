//! Matrix products: `out = a · b` for `(m, k)` and `(k, n)`, or for stacks of them, of any strides.
//!
//! Sums are f32 (f64 for f64), over at most [`RUN`] terms one after another and over runs in their order; each element is
//! rounded once to the type of `out`. On a CPU, f32 and f64 are multiplied by the crate `gemm`. f16 is widened first, exactly,
//! and so is bf16 where the machine has no fast product of it. Where it has one, that is Intel's tile unit ([`Engine::Tiles`])
//! or AMD's `vdpbf16ps` ([`Engine::Pairs`]; Intel's runs at half the speed of its f32). Results do not depend on the
//! number of threads.
//!
//! Contract: with `u` the roundoff of the sums (2⁻²⁴; 2⁻⁵³ in f64) and `r` the runs of `k`, off by at most
//! `2u · (min(k, RUN) + r) · Σ|a·b|`, and a rounding to the type of `out`. The bf16 products of [`Engine::Tiles`] and
//! [`Engine::Pairs`] take subnormal numbers for zero, in `a`, `b` and in their sums. A NaN or infinity in a row of `a` or a
//! column of `b` comes out as NaN or infinite in that row or column, and nowhere else.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod engine;
mod gemm;
mod host;
mod matrix;
mod scalar;
#[cfg(feature = "candle")]
mod tensors;
#[cfg(test)]
mod tests;

pub use engine::Engine;
pub(crate) use gemm::{Before, matrix_product};
pub(crate) use matrix::Matrix;
pub use scalar::product_scalar;
#[cfg(feature = "candle")]
pub use tensors::product_of;

use crate::buffer::{In, Out, Place, Ran, ScalarType, Why};
use crate::{Error, Result};
use matrix::Stack;

/// The most terms that are added one after another.
pub const RUN: usize = 1024;

const OP: &str = "matrix product";

/// Writes `a · b`: of `(m, k)` and `(k, n)` to `(m, n)`, or of stacks with one more dimension in front, the same of all
/// three. `a` and `b` are of one float type, and `out` of that or of f32.
///
/// # Errors
///
/// [`Error::Operand`] for shapes that do not fit together.
pub fn product(a: &In<'_>, b: &In<'_>, out: &mut Out<'_>) -> Result<Ran> {
    product_on(Engine::best(), a, b, out)
}

fn product_on(engine: Engine, a: &In<'_>, b: &In<'_>, out: &mut Out<'_>) -> Result<Ran> {
    let refuse = |argument, expected: String, got: &[usize]| {
        Err(Error::Operand { op: OP, argument, expected, got: format!("{got:?}") })
    };
    let (Some(lhs), Some(rhs)) = (Stack::of(a), Stack::of(b)) else {
        return refuse("a", "two matrices, or two stacks of them".into(), a.dims());
    };
    if (rhs.count, rhs.each.rows) != (lhs.count, lhs.each.columns) {
        return refuse("b", format!("{} of {} rows", lhs.count, lhs.each.columns), b.dims());
    }
    let whole = [lhs.count, lhs.each.rows, rhs.each.columns];
    let expected = &whole[3 - a.dims().len()..];
    if a.dims().len() != b.dims().len() || out.dims() != expected {
        return refuse("out", format!("{expected:?}"), out.dims());
    }
    let (of, to) = (a.scalar_type(), out.scalar_type());
    if b.scalar_type() != of || !(to == of || to == ScalarType::F32 && of != ScalarType::F64) {
        return Ok(Ran::Composed(Why::Dtype("b or out")));
    }
    match (a.place(), b.place()) {
        (Place::Host(a), Place::Host(b)) => Ok(host::product(engine, (a, lhs), (b, rhs), out)),
        #[cfg(feature = "cuda")]
        _ => Ok(Ran::Composed(Why::Device)),
    }
}
