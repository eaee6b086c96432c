//! Functions of single elements, rounded once. How far off each may be is in `docs/numerics.md`.

use backends::kernels::pointwise::{Function, Pair, gradients_of_pair, value_of_pair};
use candle_core::{DType, Tensor};

use super::elementwise::unary;
use crate::dtypes::result_type;
use crate::graph::{Keep, composed};
use crate::ops::shape::broadcast::{broadcast_dims, sum_to};
use crate::ops::shape::empty::of_no_elements;
use crate::plain::{apply, choose, zero_where};
use crate::region::float_inputs;
use crate::{Error, Result};

/// One function of one tensor per line: documentation, name, and its kernel.
macro_rules! functions {
    ($($(#[$doc:meta])+ $name:ident: $function:expr;)+) => {$(
        $(#[$doc])+
        ///
        /// # Errors
        ///
        /// A dtype that is not f16, bf16, f32 or f64.
        pub fn $name(x: &Tensor) -> Result<Tensor> {
            unary(stringify!($name), $function, x)
        }
    )+};
}

functions! {
    /// The natural logarithm.
    log: Function::Log;
    /// The logarithm to base 2.
    log2: Function::Log2;
    /// The logarithm to base 10.
    log10: Function::Log10;
    /// `log(1 + x)`, also for an `x` that vanishes beside 1.
    log1p: Function::Log1p;
    /// `exp(x) − 1`, also for an `x` that vanishes beside 1.
    expm1: Function::Expm1;
    /// The absolute value, with gradient 0 at 0.
    abs: Function::Abs;
    /// `−x`.
    neg: Function::Neg;
    /// `x²`.
    square: Function::Square;
    /// The sine.
    sin: Function::Sin;
    /// The cosine.
    cos: Function::Cos;
    /// The arcsine; NaN outside `[-1, 1]`.
    asin: Function::Asin;
    /// The arccosine; NaN outside `[-1, 1]`.
    acos: Function::Acos;
    /// The arctangent.
    atan: Function::Atan;
    /// The hyperbolic sine.
    sinh: Function::Sinh;
    /// The hyperbolic cosine.
    cosh: Function::Cosh;
    /// The error function.
    erf: Function::Erf;
    /// The exponential.
    exp: Function::Exp;
    /// The square root, with infinite gradient at 0.
    sqrt: Function::Sqrt;
    /// `1 / √x`.
    rsqrt: Function::Rsqrt;
    /// `1 / x`.
    reciprocal: Function::Reciprocal;
    /// The tangent.
    tan: Function::Tan;
    /// The inverse of the error function: infinite at ±1, NaN beyond.
    erfinv: Function::Erfinv;
}

/// `x` to the power of a number.
///
/// # Errors
///
/// A dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// `torch.pow`; to the power of 0 the gradient is 0.
pub fn powf(x: &Tensor, exponent: f64) -> Result<Tensor> {
    unary("pow", Function::Power { exponent }, x)
}

/// `base` to the power of `exponent`, element by element, with broadcasting and type promotion.
///
/// # Errors
///
/// Shapes that do not broadcast, dtypes that do not promote or are not floats.
///
/// # Source
///
/// `torch.pow`: the gradient of `exponent` is 0 where `base` is 0 and `exponent` is not negative.
pub fn pow(base: &Tensor, exponent: &Tensor) -> Result<Tensor> {
    let [base, exponent] = float_inputs("pow", [("base", base), ("exponent", exponent)])?;
    let (dtype, dims) =
        (result_type("pow", &base, &exponent)?, broadcast_dims("pow", base.dims(), exponent.dims())?);
    if let Some(empty) = of_no_elements("pow", &[&base, &exponent], &dims, dtype)? {
        return Ok(empty);
    }
    let (b, e) = spread([&base, &exponent], &dims, dtype)?;
    let value = value_of_pair(Pair::Power, &b, &e)?;
    composed("pow", [&base, &exponent], value, Keep::Inputs, move |grad, _, [base, exponent]| {
        let (b, e) = spread([base, exponent], &dims, grad.dtype())?;
        let [db, de] = gradients_of_pair(Pair::Power, &b, &e, grad)?;
        Ok([sum_to(&db, base.dims())?, sum_to(&de, exponent.dims())?])
    })
}

/// `x` kept within `low..=high`; either end may be infinite. The gradient at the ends is 1.
///
/// # Errors
///
/// `low` above `high`, a dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// `torch.clamp`.
pub fn clamp(x: &Tensor, low: f64, high: f64) -> Result<Tensor> {
    if low.is_nan() || high.is_nan() || low > high {
        return Err(Error::argument("clamp", "low", low, format!("at most high = {high}")));
    }
    unary("clamp", Function::Clamp { low, high }, x)
}

/// The larger of `a` and `b`, element by element; NaN where either is. Where they are equal each gets half the gradient.
///
/// # Errors
///
/// Shapes that do not broadcast, dtypes that do not promote or are not floats.
pub fn maximum(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    extremum("maximum", a, b, |a, b| a.ge(b))
}

/// The smaller of `a` and `b`, as [`maximum`].
///
/// # Errors
///
/// As [`maximum`].
pub fn minimum(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    extremum("minimum", a, b, |a, b| a.le(b))
}

/// Whether the first tensor's element is taken.
type Wins = fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>;

fn extremum(op: &'static str, a: &Tensor, b: &Tensor, wins: Wins) -> Result<Tensor> {
    let [a, b] = float_inputs(op, [("a", a), ("b", b)])?;
    let (dtype, dims) = (result_type(op, &a, &b)?, broadcast_dims(op, a.dims(), b.dims())?);
    if let Some(empty) = of_no_elements(op, &[&a, &b], &dims, dtype)? {
        return Ok(empty);
    }
    let (x, y) = spread([&a, &b], &dims, dtype)?;
    let value = choose(&wins(&x, &y)?, &x, &y)?;
    let value = choose(&x.ne(&x)?, &x, &value)?;
    composed(op, [&a, &b], value, Keep::Inputs, move |grad, _, [a, b]| {
        let (x, y) = spread([a, b], &dims, grad.dtype())?;
        let half = apply(Function::Scale { factor: 0.5 }, grad)?;
        let share = |x: &Tensor, y: &Tensor| choose(&x.eq(y)?, &half, &zero_where(&wins(y, x)?, grad)?);
        Ok([sum_to(&share(&x, &y)?, a.dims())?, sum_to(&share(&y, &x)?, b.dims())?])
    })
}

/// Two tensors, off the graph, in one dtype and shape.
fn spread(inputs: [&Tensor; 2], dims: &[usize], dtype: DType) -> candle_core::Result<(Tensor, Tensor)> {
    let [a, b] = inputs.map(|t| t.detach().to_dtype(dtype).and_then(|t| t.broadcast_as(dims)?.contiguous()));
    Ok((a?, b?))
}
