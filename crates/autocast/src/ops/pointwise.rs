//! Functions of single elements: computed in f32 (f64 for f64) and rounded once.

use candle_core::Tensor;

use super::arithmetic::result_type;
use super::broadcast::{broadcast_dims, sum_to};
use super::elementwise::{unary, unary_by_value};
use super::inverse;
use super::log_exp;
use super::record::record;
use crate::prepare::float_inputs;
use crate::{Error, Result};

/// One function of one tensor per line: documentation, name, value, and the gradient from that of the value (`g`) and
/// the input or, after `by value`, the value.
macro_rules! functions {
    ($($(#[$doc:meta])+ $name:ident: $forward:expr, $backward:expr;)+) => {$(
        $(#[$doc])+
        ///
        /// # Errors
        ///
        /// A dtype that is not f16, bf16, f32 or f64.
        pub fn $name(x: &Tensor) -> Result<Tensor> {
            unary(stringify!($name), x, $forward, $backward)
        }
    )+};
    (by value: $($(#[$doc:meta])+ $name:ident: $forward:expr, $backward:expr;)+) => {$(
        $(#[$doc])+
        ///
        /// # Errors
        ///
        /// A dtype that is not f16, bf16, f32 or f64.
        pub fn $name(x: &Tensor) -> Result<Tensor> {
            unary_by_value(stringify!($name), x, $forward, $backward)
        }
    )+};
}

functions! {
    /// The natural logarithm.
    log: Tensor::log, |g, x| g / x;
    /// The logarithm to base 2.
    log2: |x| x.log()? / std::f64::consts::LN_2, |g, x| (g / x)? / std::f64::consts::LN_2;
    /// The logarithm to base 10.
    log10: |x| x.log()? / std::f64::consts::LN_10, |g, x| (g / x)? / std::f64::consts::LN_10;
    /// `log(1 + x)`, also for an `x` that vanishes beside 1.
    log1p: log_exp::log1p, |g, x| g / (x + 1.)?;
    /// `exp(x) − 1`, also for an `x` that vanishes beside 1.
    expm1: log_exp::expm1, |g, x| g * x.exp()?;
    /// The absolute value, with gradient 0 at 0.
    abs: Tensor::abs, |g, x| g * x.sign()?;
    /// `−x`.
    neg: Tensor::neg, |g, _| g.neg();
    /// `x²`.
    square: Tensor::sqr, |g, x| (g * x)? * 2.;
    /// The sine.
    sin: Tensor::sin, |g, x| g * x.cos()?;
    /// The cosine.
    cos: Tensor::cos, |g, x| (g * x.sin()?)?.neg();
    /// The arcsine; NaN outside `[-1, 1]`.
    asin: inverse::asin, |g, x| g / inverse::one_less_square(x)?.sqrt()?;
    /// The arccosine; NaN outside `[-1, 1]`.
    acos: inverse::acos, |g, x| (g / inverse::one_less_square(x)?.sqrt()?)?.neg();
    /// The arctangent.
    atan: inverse::atan, |g, x| g / (x.sqr()? + 1.)?;
    /// The hyperbolic sine.
    sinh: sinh_wide, |g, x| g * cosh_wide(x)?;
    /// The hyperbolic cosine.
    cosh: cosh_wide, |g, x| g * sinh_wide(x)?;
    /// The error function.
    erf: Tensor::erf, |g, x| g * (x.sqr()?.neg()?.exp()? * std::f64::consts::FRAC_2_SQRT_PI)?;
}

functions! {
    by value:
    /// The exponential.
    exp: Tensor::exp, |g, y| g * y;
    /// The square root, with infinite gradient at 0.
    sqrt: Tensor::sqrt, |g, y| g / (y * 2.)?;
    /// `1 / √x`.
    rsqrt: |x| x.sqrt()?.recip(), |g, y| (g * (y.sqr()? * y)?)? * -0.5;
    /// `1 / x`.
    reciprocal: Tensor::recip, |g, y| (g * y.sqr()?)?.neg();
    /// The tangent.
    tan: |x| x.sin()? / x.cos()?, |g, y| g * (y.sqr()? + 1.)?;
    /// The inverse of the error function: infinite at ±1, NaN beyond.
    erfinv: inverse::erfinv, |g, y| g * (y.sqr()?.exp()? / std::f64::consts::FRAC_2_SQRT_PI)?;
}

/// From expm1, so that small arguments keep their digits.
fn sinh_wide(x: &Tensor) -> candle_core::Result<Tensor> {
    // exp(|x|/2) twice, because exp(|x|) overflows before its half does.
    let e = log_exp::expm1(x)?;
    let small = ((&e + (&e / (&e + 1.)?)?)? * 0.5)?;
    let half = (x.abs()? * 0.5)?.exp()?;
    let large = (((&half * 0.5)? * &half)? * x.sign()?)?;
    x.abs()?.lt(20.)?.where_cond(&small, &large)
}

fn cosh_wide(x: &Tensor) -> candle_core::Result<Tensor> {
    let half = (x.abs()? * 0.5)?.exp()?;
    ((&half * 0.5)? * &half)? + ((x.abs()?.neg()?.exp()?) * 0.5)?
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
    unary(
        "pow",
        x,
        move |x| power(x, exponent),
        move |g, x| match exponent {
            0. => g.zeros_like(),
            _ => g * (power(x, exponent - 1.)? * exponent)?,
        },
    )
}

fn power(x: &Tensor, exponent: f64) -> candle_core::Result<Tensor> {
    match exponent {
        0. => x.ones_like(),
        1. => Ok(x.clone()),
        2. => x.sqr(),
        0.5 => x.sqrt(),
        -1. => x.recip(),
        _ => x.powf(exponent),
    }
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
    let [base, exponent] = float_inputs("pow", [base, exponent])?;
    let (dtype, dims) =
        (result_type(&base, &exponent)?, broadcast_dims("pow", base.dims(), exponent.dims())?);
    let (b, e) = spread([&base, &exponent], &dims, crate::prepare::accumulation_dtype(dtype))?;
    let value = power_of(&b, &e)?.to_dtype(dtype)?;
    record("pow", [&base, &exponent], value, move |grad, _, [base, exponent]| {
        let (b, e) = spread([base, exponent], &dims, grad.dtype())?;
        let zero = grad.zeros_like()?;
        let db = (grad * (&e * power_of(&b, &(&e - 1.)?)?)?)?;
        let db = e.eq(0.)?.where_cond(&zero, &db)?;
        let de = ((grad * power_of(&b, &e)?)? * b.log()?)?;
        let de = (b.eq(0.)? * e.ge(0.)?)?.where_cond(&zero, &de)?;
        Ok([sum_to(&db, base.dims())?, sum_to(&de, exponent.dims())?])
    })
}

/// `exp(e · log|b|)`, with the sign of a negative base that is raised to an integer.
fn power_of(b: &Tensor, e: &Tensor) -> Result<Tensor> {
    let magnitude = (e * b.abs()?.log()?)?.exp()?;
    let odd = (e - ((e * 0.5)?.floor()? * 2.)?)?;
    let sign = odd.eq(1.)?.where_cond(&b.ones_like()?.neg()?, &b.ones_like()?)?;
    let integer = e.floor()?.eq(e)?;
    let of_negative = integer.where_cond(&(&magnitude * sign)?, &(b.zeros_like()? * f64::NAN)?)?;
    let value = b.lt(0.)?.where_cond(&of_negative, &magnitude)?;
    Ok((e.eq(0.)? + b.eq(1.)?)?.gt(0u8)?.where_cond(&b.ones_like()?, &value)?)
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
    let end = |x: &Tensor, value: f64| Tensor::full(value, x.shape(), x.device())?.to_dtype(x.dtype());
    unary(
        "clamp",
        x,
        move |x| {
            let floor = x.lt(low)?.where_cond(&end(x, low)?, x)?;
            x.gt(high)?.where_cond(&end(x, high)?, &floor)
        },
        move |g, x| (x.lt(low)? + x.gt(high)?)?.where_cond(&g.zeros_like()?, g),
    )
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
    let [a, b] = float_inputs(op, [a, b])?;
    let (dtype, dims) = (result_type(&a, &b)?, broadcast_dims(op, a.dims(), b.dims())?);
    let (x, y) = spread([&a, &b], &dims, dtype)?;
    let value = wins(&x, &y)?.where_cond(&x, &y)?;
    let value = x.ne(&x)?.where_cond(&x, &value)?;
    record(op, [&a, &b], value, move |grad, _, [a, b]| {
        let (x, y) = spread([a, b], &dims, grad.dtype())?;
        let (half, zero) = ((grad * 0.5)?, grad.zeros_like()?);
        let share = |x: &Tensor, y: &Tensor| -> candle_core::Result<Tensor> {
            let won = wins(y, x)?.where_cond(&zero, grad)?;
            x.eq(y)?.where_cond(&half, &won)
        };
        Ok([sum_to(&share(&x, &y)?, a.dims())?, sum_to(&share(&y, &x)?, b.dims())?])
    })
}

/// Two tensors, off the graph, in one dtype and shape.
fn spread(
    inputs: [&Tensor; 2],
    dims: &[usize],
    dtype: candle_core::DType,
) -> candle_core::Result<(Tensor, Tensor)> {
    let [a, b] = inputs.map(|t| t.detach().to_dtype(dtype).and_then(|t| t.broadcast_as(dims)?.contiguous()));
    Ok((a?, b?))
}
