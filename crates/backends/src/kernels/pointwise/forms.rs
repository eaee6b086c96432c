//! Functions that the standard library lacks, and derivatives, in forms that neither cancel nor overflow on the way.
//!
//! Three devices recur. Below 0 a product with `exp(x)` takes `h = exp(x/2)` at its beginning and its end, so that only
//! the last multiplication meets subnormal numbers. A factor that has vanished wins over one that is infinite. What the
//! rounding of an exponential's argument lost is put back to first order, since the exponential would amplify it.

use libm::{erf, erfc};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};

/// What `FRAC_1_SQRT_2` lacks to 1/√2.
const FRAC_1_SQRT_2_LOW: f64 = -4.833646656726457e-17;
/// 1/√(2π).
const DENSITY_AT_0: f64 = 0.3989422804014327;
/// √π/2.
const SQRT_PI_HALF: f64 = 0.886226925452758;

/// −1, 0 or 1; 0 at NaN, as PyTorch's.
pub(super) fn sign(x: f64) -> f64 {
    f64::from(i8::from(x > 0.) - i8::from(x < 0.))
}

/// `x` kept within `low..=high`; NaN stays.
pub(super) fn within(x: f64, low: f64, high: f64) -> f64 {
    if x < low {
        low
    } else if x > high {
        high
    } else {
        x
    }
}

/// `1 − x²`.
pub(super) fn one_less_square(x: f64) -> f64 {
    (1. - x) * (1. + x)
}

/// `factor · x`, and 0 where the factor is, whatever `x`.
pub(super) fn unless_zero(factor: f64, x: f64) -> f64 {
    if factor == 0. { 0. } else { factor * x }
}

/// A product and what its rounding lost.
fn two_product(a: f64, b: f64) -> (f64, f64) {
    let product = a * b;
    (product, a.mul_add(b, -product))
}

/// `exp(factor · x²)`, for a power of two as factor.
fn exp_of_square(factor: f64, x: f64) -> f64 {
    if x.abs() > 40. {
        return (factor * x * x).exp();
    }
    let (square, lost) = two_product(x, x);
    let value = (factor * square).exp();
    value + value * (factor * lost)
}

pub(super) fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x < 0. { e / (1. + e) } else { 1. / (1. + e) }
}

/// `σ(x) σ(−x)`.
pub(super) fn sigmoid_slope(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    e / ((1. + e) * (1. + e))
}

/// `1 / cosh²`.
pub(super) fn tanh_slope(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    let sech = 2. * e / (1. + e * e);
    sech * sech
}

pub(super) fn softplus(x: f64) -> f64 {
    let log = (-x.abs()).exp().ln_1p();
    if x > 0. { x + log } else { log }
}

pub(super) fn silu(x: f64) -> f64 {
    if x >= 0. {
        return x / (1. + (-x).exp());
    }
    let h = (0.5 * x).exp();
    -unless_zero(h, -x / (1. + h * h) * h)
}

/// `σ(x) (1 + x σ(−x))`.
pub(super) fn silu_slope(x: f64) -> f64 {
    if x >= 0. {
        let n = (-x).exp();
        return (1. + unless_zero(n, x / (1. + n))) / (1. + n);
    }
    let h = (0.5 * x).exp();
    let gate = 1. / (1. + h * h);
    unless_zero(h, h * (1. + x * gate) * gate)
}

pub(super) fn hardswish(x: f64) -> f64 {
    if x <= -3. {
        0.
    } else if x >= 3. {
        x
    } else {
        x * (x + 3.) / 6.
    }
}

pub(super) fn hardswish_gradient(x: f64, g: f64) -> f64 {
    if x <= -3. {
        0.
    } else if x >= 3. {
        g
    } else {
        g * ((2. * x + 3.) / 6.)
    }
}

/// With `n = (1 + eˣ)² − 1`, `tanh(log(1 + eˣ))` is `n / (n + 2)`.
pub(super) fn mish(x: f64) -> f64 {
    if x >= 0. {
        let m = (-x).exp();
        return x * ((1. + 2. * m) / (1. + 2. * m * (1. + m)));
    }
    let h = (0.5 * x).exp();
    let e = h * h;
    -unless_zero(h, -x * h * ((e + 2.) / (e * (e + 2.) + 2.)))
}

/// `n / (n + 2) + 4x eˣ(1 + eˣ) / (n + 2)²`.
pub(super) fn mish_slope(x: f64) -> f64 {
    if x >= 0. {
        let m = (-x).exp();
        let whole = 1. + 2. * m * (1. + m);
        let bend = unless_zero(m, x * (4. * m * (1. + m) / (whole * whole)));
        return (1. + 2. * m) / whole + bend;
    }
    let h = (0.5 * x).exp();
    let e = h * h;
    let whole = e * (e + 2.) + 2.;
    unless_zero(h, h * (((e + 2.) + 4. * x * (1. + e) / whole) / whole))
}

/// `Φ(x)`, the normal distribution, as `erfc(−x/√2) / 2`.
fn normal_distribution(x: f64) -> f64 {
    let z = -x * FRAC_1_SQRT_2;
    if !(-40. ..=-1.).contains(&x) {
        return 0.5 * erfc(z);
    }
    let lost = (-x).mul_add(FRAC_1_SQRT_2, -z) - x * FRAC_1_SQRT_2_LOW;
    0.5 * (erfc(z) - FRAC_2_SQRT_PI * (-z * z).exp() * lost)
}

pub(super) fn gelu(x: f64) -> f64 {
    -unless_zero(normal_distribution(x), -x)
}

/// `Φ(x) + x φ(x)`.
pub(super) fn gelu_slope(x: f64) -> f64 {
    normal_distribution(x) + unless_zero(exp_of_square(-0.5, x), x * DENSITY_AT_0)
}

/// `2u` of [`gelu_tanh`] and what its roundings lost.
fn gelu_tanh_argument(x: f64) -> (f64, f64) {
    /// 2√(2/π), and what the first number lacks.
    const SCALE: (f64, f64) = (1.5957691216057308, -9.96930880911092e-17);
    if x.abs() > 100. {
        return (f64::INFINITY.copysign(x), 0.);
    }
    let (square, square_lost) = two_product(x, x);
    let (cubic, cubic_lost) = two_product(GELU_TANH_CUBIC, square);
    let factor = 1. + cubic;
    let larger = if cubic > 1. { (cubic - factor) + 1. } else { (1. - factor) + cubic };
    let factor_lost = larger + (cubic_lost + GELU_TANH_CUBIC * square_lost);
    let (product, product_lost) = two_product(x, factor);
    let (argument, argument_lost) = two_product(SCALE.0, product);
    let lost = argument_lost + SCALE.0 * (product_lost + x * factor_lost) + SCALE.1 * product;
    (argument, lost)
}

const GELU_TANH_CUBIC: f64 = 0.044715;

pub(super) fn gelu_tanh(x: f64) -> f64 {
    let (argument, lost) = gelu_tanh_argument(x);
    if x >= 0. {
        let n = (-argument).exp();
        return x / (1. + (n - n * lost));
    }
    let h = (0.5 * argument).exp();
    let h = h + h * (0.5 * lost);
    -unless_zero(h, -x / (1. + h * h) * h)
}

/// `σ(2u) (1 + x σ(−2u) · 2u′)`.
pub(super) fn gelu_tanh_slope(x: f64) -> f64 {
    /// 2√(2/π).
    const LINEAR: f64 = 1.5957691216057308;
    let (argument, lost) = gelu_tanh_argument(x);
    let bend = x * (LINEAR * (1. + 3. * GELU_TANH_CUBIC * (x * x)));
    if x >= 0. {
        let n = (-argument).exp();
        let n = n - n * lost;
        return (1. + unless_zero(n, bend / (1. + n))) / (1. + n);
    }
    let h = (0.5 * argument).exp();
    let h = h + h * (0.5 * lost);
    let gate = 1. / (1. + h * h);
    unless_zero(h, h * (1. + bend * gate) * gate)
}

/// `2/√π · exp(−x²)`.
pub(super) fn erf_slope(x: f64) -> f64 {
    FRAC_2_SQRT_PI * exp_of_square(-1., x)
}

/// The inverse of the error function: infinite at ±1, NaN beyond.
pub(super) fn erfinv(x: f64) -> f64 {
    let (y, lost) = erfinv_parts(x);
    y + lost
}

/// `√π/2 · exp(y²)` for `y = erfinv(x)`.
pub(super) fn erfinv_slope(x: f64) -> f64 {
    let (y, lost) = erfinv_parts(x);
    let slope = SQRT_PI_HALF * exp_of_square(1., y);
    if slope.is_finite() { slope + slope * (2. * y * lost) } else { slope }
}

/// `erfinv(x)` as a number and what it lacks.
///
/// # Source
///
/// The first value, off by a factor of 2e-3, is that of Winitzki, A handy approximation for the error function and its
/// inverse, 2008; two of Halley's steps and one of Newton's follow.
fn erfinv_parts(x: f64) -> (f64, f64) {
    const A: f64 = 0.147;
    let size = x.abs();
    if size < 1e-8 {
        return (x * SQRT_PI_HALF, 0.);
    }
    if size >= 1. || size.is_nan() {
        return (if size == 1. { f64::INFINITY.copysign(x) } else { f64::NAN }, 0.);
    }
    let rest = 1. - size;
    let log = rest.ln() + size.ln_1p();
    let (b, c) = (2. / (PI * A) + 0.5 * log, -log / A);
    let mut y = (c / ((b * b + c).sqrt() + b)).sqrt();
    // Near 1 the distance to 1 has the digits that the value has lost.
    let newton = |y: f64| {
        let excess = if size < 0.5 { erf(y) - size } else { rest - erfc(y) };
        excess / erf_slope(y)
    };
    for _ in 0..2 {
        let step = newton(y);
        y -= step / (1. + y * step);
    }
    (y.copysign(x), -newton(y).copysign(1.) * sign(newton(y)) * sign(x))
}
