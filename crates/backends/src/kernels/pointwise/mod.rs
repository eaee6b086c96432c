//! Functions of single elements and of pairs of them, each with its derivative.
//!
//! Every element is computed in f64, whatever it is stored in, and rounded once: to nearest, ties to even. That puts f32
//! and 16-bit results within one ULP of the exact value over the whole domain, subnormal ones included. The few functions that
//! networks are made of are computed in f32 where elements and gradient are narrower than f64 (below). In f64 the
//! formulas are ones that neither cancel nor overflow before their result does, and the bounds are those of the table in
//! `docs/numerics.md`. NaN gives NaN, except where a function is constant (`x⁰`) or its documentation says otherwise; an
//! argument without a value, as the logarithm of −1, gives NaN. Zeros keep their sign wherever the function is odd.
//!
//! A gradient is the derivative at `x` times `grad`. Where a function is chosen piece by piece, so is its gradient:
//! nothing is multiplied by 0 to be got rid of.
//!
//! Contract: the bounds in ULPs of `docs/numerics.md`. In f32, on a GPU and on a CPU with fused multiply-adds (`single`), elements and
//! gradient narrower than f64: gelu, gelu_tanh, silu and sigmoid, and on a GPU tanh, are within 2 ULP of the exact value in f32, and
//! within 1 of 16 bits; a derivative is within 5 ULP of the sum of the sizes of its terms (`s(x)` and `x s'(x)` of `x s(x)`, which may
//! cancel), and is rounded to f32 before the product with `grad`, which is rounded. relu is exact, and so is a product with a number but for 16 bits, which it reaches by way of f32.

mod forms;
mod lanes;
mod pair;
mod power;
mod rounded;
mod single;
mod table;
#[cfg(feature = "candle")]
mod tensors;
#[cfg(test)]
mod tests;
mod wide;

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
mod packed;

pub use pair::{Pair, pair_gradients, pair_values};
pub use rounded::Rounded;
#[cfg(feature = "candle")]
pub use tensors::{gradient_of, gradients_of_pair, value_of, value_of_pair};

use crate::heap::fresh;
use crate::simd::Isa;
use crate::{Error, Floats, Real, Result};
use rayon::prelude::*;

/// A function of one element.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Function {
    /// `|x|`, with derivative 0 at 0.
    Abs,
    /// The arccosine.
    Acos,
    /// `x + term`.
    Add {
        /// What is added.
        term: f64,
    },
    /// The arcsine.
    Asin,
    /// The arctangent.
    Atan,
    /// `x` kept within `low..=high`, with derivative 1 at the ends and 0 at NaN.
    Clamp {
        /// The least value.
        low: f64,
        /// The largest value.
        high: f64,
    },
    /// The cosine.
    Cos,
    /// The hyperbolic cosine.
    Cosh,
    /// `x / divisor`.
    Divide {
        /// What is divided by.
        divisor: f64,
    },
    /// `x` where positive, `alpha · (exp(x) − 1)` elsewhere.
    Elu {
        /// The factor of the negative side.
        alpha: f64,
    },
    /// The error function.
    Erf,
    /// The inverse of the error function.
    Erfinv,
    /// The exponential.
    Exp,
    /// `exp(x) − 1`.
    Expm1,
    /// `x · Φ(x)` with the normal distribution's Φ.
    Gelu,
    /// `x / (1 + exp(−2u))` with `u = √(2/π) (x + 0.044715 x³)`.
    GeluTanh,
    /// `min(max(x + 3, 0), 6) / 6`.
    Hardsigmoid,
    /// `x · hardsigmoid(x)`.
    Hardswish,
    /// `x` kept within `low..=high`, with derivative 0 at the ends and 1 at NaN.
    Hardtanh {
        /// The least value.
        low: f64,
        /// The largest value.
        high: f64,
    },
    /// `x` where positive, `slope · x` elsewhere.
    LeakyRelu {
        /// The factor of the negative side.
        slope: f64,
    },
    /// The natural logarithm.
    Log,
    /// The logarithm to base 10.
    Log10,
    /// `log(1 + x)`.
    Log1p,
    /// The logarithm to base 2.
    Log2,
    /// `x · tanh(log(1 + exp(x)))`.
    Mish,
    /// `−x`.
    Neg,
    /// `x` to the power of a number.
    Power {
        /// The exponent.
        exponent: f64,
    },
    /// `1 / x`.
    Reciprocal,
    /// `max(x, 0)`, with derivative 0 at 0.
    Relu,
    /// `1 / √x`.
    Rsqrt,
    /// `x · factor`.
    Scale {
        /// What is multiplied by.
        factor: f64,
    },
    /// `1 / (1 + exp(−x))`.
    Sigmoid,
    /// `x / (1 + exp(−x))`.
    Silu,
    /// The sine.
    Sin,
    /// The hyperbolic sine.
    Sinh,
    /// `log(1 + exp(x))`.
    Softplus,
    /// The square root.
    Sqrt,
    /// `x²`.
    Square,
    /// The tangent.
    Tan,
    /// The hyperbolic tangent.
    Tanh,
}

impl Function {
    /// The numbers that the function was made with, by name.
    pub fn settings(self) -> Vec<(&'static str, f64)> {
        match self {
            Self::Add { term } => vec![("term", term)],
            Self::Clamp { low, high } | Self::Hardtanh { low, high } => vec![("low", low), ("high", high)],
            Self::Divide { divisor } => vec![("divisor", divisor)],
            Self::Elu { alpha } => vec![("alpha", alpha)],
            Self::LeakyRelu { slope } => vec![("slope", slope)],
            Self::Power { exponent } => vec![("exponent", exponent)],
            Self::Scale { factor } => vec![("factor", factor)],
            _ => Vec::new(),
        }
    }
}

/// `function` of every element.
pub fn values<T: Rounded>(function: Function, x: &[T]) -> Vec<T> {
    let (isa, function) = (Isa::best(), function.rounded::<T>());
    if narrow::<T>() && single::takes(isa, function) {
        return in_chunks(x.len(), |at, out| T::values_in_f32(function, &x[at..at + out.len()], out));
    }
    in_blocks(x.len(), |at, block| {
        f64::load(T::floats(&x[at..at + block.len()]), block);
        let several_at_once = match narrow::<T>() {
            true => lanes::values(isa, function, block),
            false => wide::values(isa, function, block),
        };
        if !several_at_once {
            function.values(block);
        }
    })
}

/// The derivative of `function` at every element of `x`, times that of `grad`.
///
/// # Errors
///
/// [`Error::LengthMismatch`].
pub fn gradients<T: Rounded>(function: Function, x: &[T], grad: Floats<'_>) -> Result<Vec<T>> {
    check_length("grad", x.len(), grad.len())?;
    let (isa, function) = (Isa::best(), function.rounded::<T>());
    if narrow::<T>() && !matches!(grad, Floats::F64(_)) && single::takes(isa, function) {
        return Ok(in_chunks(x.len(), |at, out| {
            let (x, grad) = (&x[at..at + out.len()], part(grad, at, out.len()));
            T::gradients_in_f32(function, x, grad, out);
        }));
    }
    Ok(in_blocks(x.len(), |at, block| {
        let mut wide = [0.; BLOCK];
        let wide = &mut wide[..block.len()];
        f64::load(T::floats(&x[at..at + block.len()]), wide);
        load(grad, at, block);
        let several_at_once = match narrow::<T>() {
            true => lanes::gradients(isa, function, wide, block),
            false => wide::gradients(isa, function, wide, block),
        };
        if !several_at_once {
            function.gradients(wide, block);
        }
    }))
}

/// Whether elements are narrower than what they are computed in.
fn narrow<T>() -> bool {
    size_of::<T>() < size_of::<f64>()
}

/// Elements that are widened at a time: they stay in the first-level cache.
const BLOCK: usize = 256;
/// Elements per task. What is shorter than a few of them is not worth another thread.
const CHUNK: usize = 32 * BLOCK;

/// `len` elements, a block at a time: `compute` fills the block that starts at an index. Which thread does it changes
/// nothing.
fn in_blocks<T: Rounded>(len: usize, compute: impl Fn(usize, &mut [f64]) + Sync) -> Vec<T> {
    in_chunks(len, |first, out| {
        let mut wide = [0.; BLOCK];
        for (at, out) in out.chunks_mut(BLOCK).enumerate() {
            let wide = &mut wide[..out.len()];
            compute(first + at * BLOCK, wide);
            T::round(wide, out);
        }
    })
}

/// `len` elements: `write` fills those from an index on.
fn in_chunks<T: Rounded>(len: usize, write: impl Fn(usize, &mut [T]) + Sync) -> Vec<T> {
    let mut out = fresh(len);
    let chunk = |(index, out): (usize, &mut [T])| write(index * CHUNK, out);
    match len > 4 * CHUNK {
        true => out.par_chunks_mut(CHUNK).enumerate().for_each(chunk),
        false => out.chunks_mut(CHUNK).enumerate().for_each(chunk),
    }
    out
}

/// As many elements as `block` has, from an index on.
fn load(from: Floats<'_>, at: usize, block: &mut [f64]) {
    f64::load(part(from, at, block.len()), block);
}

fn part(from: Floats<'_>, at: usize, len: usize) -> Floats<'_> {
    from.get(at..at + len).expect("lengths were checked")
}

fn check_length(argument: &'static str, expected: usize, got: usize) -> Result<()> {
    match expected == got {
        true => Ok(()),
        false => Err(Error::LengthMismatch { op: "pointwise", argument, expected, got }),
    }
}
