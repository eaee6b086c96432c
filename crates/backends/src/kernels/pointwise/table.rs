//! The table of functions: value and gradient of an f64, on one line each.

use super::Function::{self, *};
use super::forms::*;
use super::power::{power, power_slope};
use std::f64::consts::{LN_2, LN_10};

/// One function per line: value of `x`, and gradient at `x` for the gradient `g` of the value.
macro_rules! table {
    ($($function:pat => $value:expr, $gradient:expr;)+) => {
        #[allow(unused_variables, reason = "not every setting matters to both the value and the gradient")]
        impl Function {
            /// Replaces every element by its value.
            pub(super) fn values(self, x: &mut [f64]) {
                match self {
                    $($function => each(x, $value),)+
                }
            }

            /// Replaces every element of `g`, the gradient of the value, by the gradient of `x`.
            pub(super) fn gradients(self, x: &[f64], g: &mut [f64]) {
                match self {
                    $($function => each_gradient(x, g, $gradient),)+
                }
            }
        }
    };
}

fn each(x: &mut [f64], value: impl Fn(f64) -> f64) {
    for x in x {
        *x = value(*x);
    }
}

fn each_gradient(x: &[f64], g: &mut [f64], gradient: impl Fn(f64, f64) -> f64) {
    for (&x, g) in x.iter().zip(g) {
        *g = gradient(x, *g);
    }
}

table! {
    Abs => f64::abs, |x, g| g * sign(x);
    Acos => f64::acos, |x, g| -g / one_less_square(x).sqrt();
    Add { term } => |x| x + term, |_, g| g;
    Asin => f64::asin, |x, g| g / one_less_square(x).sqrt();
    Atan => f64::atan, |x, g| if x.abs() < 1e9 { g / (1. + x * x) } else { g / x / x };
    Clamp { low, high } => |x| within(x, low, high), |x, g| if low <= x && x <= high { g } else { 0. };
    Cos => f64::cos, |x, g| -g * x.sin();
    Cosh => f64::cosh, |x, g| g * x.sinh();
    Divide { divisor } => |x| x / divisor, |_, g| g / divisor;
    Elu { alpha } => |x| if x > 0. { x } else { alpha * x.exp_m1() }, |x, g| if x > 0. { g } else { g * (alpha * x.exp()) };
    Erf => libm::erf, |x, g| g * erf_slope(x);
    Erfinv => erfinv, |x, g| g * erfinv_slope(x);
    Exp => f64::exp, |x, g| g * x.exp();
    Expm1 => f64::exp_m1, |x, g| g * x.exp();
    Gelu => gelu, |x, g| g * gelu_slope(x);
    GeluTanh => gelu_tanh, |x, g| g * gelu_tanh_slope(x);
    Hardsigmoid => |x| within(x + 3., 0., 6.) / 6., |x, g| if x > -3. && x < 3. { g / 6. } else { 0. };
    Hardswish => hardswish, hardswish_gradient;
    Hardtanh { low, high } => |x| within(x, low, high), |x, g| if x <= low || x >= high { 0. } else { g };
    LeakyRelu { slope } => |x| if x > 0. { x } else { slope * x }, |x, g| if x > 0. { g } else { slope * g };
    Log => f64::ln, |x, g| g / x;
    Log10 => f64::log10, |x, g| g / LN_10 / x;
    Log1p => f64::ln_1p, |x, g| g / (1. + x);
    Log2 => f64::log2, |x, g| g / LN_2 / x;
    Mish => mish, |x, g| g * mish_slope(x);
    Neg => |x: f64| -x, |_, g| -g;
    Power { exponent } => |x| power(x, exponent), |x, g| g * power_slope(x, exponent);
    Reciprocal => |x| 1. / x, |x, g| -g / x / x;
    Relu => |x| if x <= 0. { 0. } else { x }, |x, g| if x <= 0. { 0. } else { g };
    Rsqrt => |x: f64| 1. / x.sqrt(), |x, g| -0.5 * (g / x.sqrt() / x);
    Scale { factor } => |x| x * factor, |_, g| g * factor;
    Sigmoid => sigmoid, |x, g| g * sigmoid_slope(x);
    Silu => silu, |x, g| g * silu_slope(x);
    Sin => f64::sin, |x, g| g * x.cos();
    Sinh => f64::sinh, |x, g| g * x.cosh();
    Softplus => softplus, |x, g| g * sigmoid(x);
    Sqrt => f64::sqrt, |x, g| g / (2. * x.sqrt());
    Square => |x| x * x, |x, g| 2. * (g * x);
    Tan => f64::tan, |x, g| g / x.cos() / x.cos();
    Tanh => f64::tanh, |x, g| g * tanh_slope(x);
}
