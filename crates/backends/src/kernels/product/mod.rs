//! Matrix products: `out = a · b` for `(m, k)` and `(k, n)`, or for stacks of them, of any strides, with a row added, or onto what
//! `out` holds or another matrix.
//!
//! Sums are f32 (f64 for f64), over at most [`RUN`] terms one after another and over runs in their order; each element is
//! rounded once to the type of `out`.
//!
//! On a GPU cuBLASLt multiplies, matrices that are stored by rows or by columns with any pitch. Its runs are of [`DEVICE_RUN`]
//! terms in f32 and f64, whose sums are added to what the output holds; those of 16 bits are whole. f32 is rounded to TF32
//! only where candle's `set_gemm_reduced_precision_f32` says so.
//!
//! On a CPU the crate `gemm` multiplies f32 and f64, in runs of 1024 terms, but for large matrices where the machine has AVX2 or
//! AVX-512: these are packed and summed by `blocked`, in runs of 256. So are f16, which is widened as it is packed, exactly,
//! and bf16: widened likewise, or in pairs by AMD's `vdpbf16ps` ([`Engine::Pairs`]; Intel's runs at half the speed of its f32). Intel's
//! tile unit ([`Engine::Tiles`]) has panels of its own. Results do not depend on the number of threads.
//!
//! Contract: with `u` the roundoff of the sums (2⁻²⁴; 2⁻⁵³ in f64) and `r` the runs of `k`, off by at most
//! `2u · (min(k, run) + r) · Σ|a·b|`, and a rounding to the type of `out`. The bf16 products of [`Engine::Tiles`] and
//! [`Engine::Pairs`] take subnormal numbers for zero, in `a`, `b` and in their sums. A NaN or infinity in a row of `a` or a
//! column of `b` comes out as NaN or infinite in that row or column, and nowhere else.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod blocked;
#[cfg(feature = "cuda")]
mod cuda;
mod engine;
mod gemm;
mod host;
mod matrix;
mod scalar;
#[cfg(feature = "candle")]
mod tensors;
#[cfg(test)]
mod tests;
mod unit;

pub(crate) use blocked::{InPlace, Lies, Operand, Plus, Source, Strided, Term, Then, turned};
pub use engine::Engine;
pub(crate) use gemm::{Float, matrix_product};
pub(crate) use matrix::Matrix;
pub use scalar::product_scalar;
#[cfg(feature = "candle")]
pub use tensors::{product_of, product_onto_of, product_plus_of};
pub(crate) use unit::{Multiply, OfBf16, Panels, by_engine, multiply_matrices};

use crate::buffer::{In, Out, Place, Ran, ScalarType, Why};
use crate::{Error, Result};
use matrix::Stack;

/// The most terms that are added one after another on a CPU.
pub const RUN: usize = blocked::DEPTH;
/// The same on a GPU, in f32 and f64.
pub const DEVICE_RUN: usize = 16_384;

const OP: &str = "matrix product";

/// Writes `a · b`: of `(m, k)` and `(k, n)` to `(m, n)`, or of stacks with one more dimension in front, the same of all
/// three. `a` and `b` are of one float type, and `out` of that or of f32.
///
/// # Errors
///
/// [`Error::Operand`] for shapes that do not fit together, [`Error::Device`].
pub fn product(a: &In<'_>, b: &In<'_>, out: &mut Out<'_>) -> Result<Ran> {
    product_on(Engine::best(), a, b, NOTHING, out)
}

/// What is added to a product before it is rounded, of the type of the output.
#[derive(Clone, Copy, Debug, Default)]
pub struct Added<'a> {
    /// To each row of the product, of `n` elements.
    pub row: Option<&'a In<'a>>,
    /// Of the product's shape.
    pub matrix: Option<&'a In<'a>>,
}

/// [`product`] with what is added to it.
///
/// # Errors
///
/// As [`product`], and [`Error::Operand`] for a row of another length or a matrix of another shape.
pub fn product_plus(a: &In<'_>, b: &In<'_>, added: Added<'_>, out: &mut Out<'_>) -> Result<Ran> {
    product_on(Engine::best(), a, b, Onto::Added(added), out)
}

/// Adds `a · b` to what `out` holds, before it is rounded.
///
/// # Errors
///
/// As [`product`].
pub fn product_onto(a: &In<'_>, b: &In<'_>, out: &mut Out<'_>) -> Result<Ran> {
    product_on(Engine::best(), a, b, Onto::Output, out)
}

/// What a product begins from.
#[derive(Clone, Copy, Debug)]
enum Onto<'a> {
    Added(Added<'a>),
    /// What the output holds.
    Output,
}

const NOTHING: Onto<'_> = Onto::Added(Added { row: None, matrix: None });

fn product_on(engine: Engine, a: &In<'_>, b: &In<'_>, onto: Onto<'_>, out: &mut Out<'_>) -> Result<Ran> {
    let added = if let Onto::Added(added) = onto { added } else { Added::default() };
    let (lhs, rhs) = fitted(a, b, added, out)?;
    let (of, to) = (a.scalar_type(), out.scalar_type());
    let of_output = |x: Option<&In<'_>>| x.is_none_or(|x| x.scalar_type() == to);
    let same = b.scalar_type() == of && of_output(added.row) && of_output(added.matrix);
    if !same || !(to == of || to == ScalarType::F32 && of != ScalarType::F64) {
        return Ok(Ran::Composed(Why::Dtype("b, what is added or out")));
    }
    match (a.place(), b.place()) {
        (Place::Host(a), Place::Host(b)) => Ok(host::product(engine, (a, lhs), (b, rhs), onto, out)),
        #[cfg(feature = "cuda")]
        (Place::Device(x), Place::Device(y)) => cuda::product((of, to), (x, lhs), (y, rhs), onto, out),
        #[cfg(feature = "cuda")]
        _ => Ok(Ran::Composed(Why::Device)),
    }
}

/// The operands as stacks, if all shapes fit together.
fn fitted(a: &In<'_>, b: &In<'_>, added: Added<'_>, out: &Out<'_>) -> Result<(Stack, Stack)> {
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
    if let Some(matrix) = added.matrix
        && matrix.dims() != expected
    {
        return refuse("the matrix", format!("{expected:?}"), matrix.dims());
    }
    match added.row {
        Some(row) if row.count() != rhs.each.columns => {
            refuse("the row", format!("{} elements", rhs.each.columns), row.dims())
        }
        _ => Ok((lhs, rhs)),
    }
}
