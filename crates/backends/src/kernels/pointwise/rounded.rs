//! From f64 to what an element is stored in, in one rounding.

use super::{Function, single};
use crate::simd::Isa;
use crate::{Element, Floats};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// A type that f64 is rounded to, once, to nearest even.
pub trait Rounded: Element {
    /// Rounds `from` into `to`, of the same length.
    fn round(from: &[f64], to: &mut [Self]);

    /// The setting of a function as PyTorch applies it: in the type that arithmetic on these elements runs in.
    fn setting(value: f64) -> f64;

    /// The element nearest to `value`.
    fn nearest(value: f64) -> f64;

    /// Values of a function that is computed in f32, of elements narrower than f64.
    #[doc(hidden)]
    fn values_in_f32(function: Function, x: &[Self], out: &mut [Self]);

    /// The gradients of `x` for such a function.
    #[doc(hidden)]
    fn gradients_in_f32(function: Function, x: &[Self], grad: Floats<'_>, out: &mut [Self]);
}

macro_rules! in_f32 {
    () => {
        fn values_in_f32(function: Function, x: &[Self], out: &mut [Self]) {
            single::values(Isa::best(), function, x, out);
        }

        fn gradients_in_f32(function: Function, x: &[Self], grad: Floats<'_>, out: &mut [Self]) {
            single::gradients(Isa::best(), function, x, grad, out);
        }
    };
}

impl Rounded for f64 {
    fn round(from: &[f64], to: &mut [Self]) {
        to.copy_from_slice(from);
    }

    fn setting(value: f64) -> f64 {
        value
    }

    fn nearest(value: f64) -> f64 {
        value
    }

    fn values_in_f32(_: Function, _: &[Self], _: &mut [Self]) {
        unreachable!("f64 is not computed in f32");
    }

    fn gradients_in_f32(_: Function, _: &[Self], _: Floats<'_>, _: &mut [Self]) {
        unreachable!("f64 is not computed in f32");
    }
}

impl Rounded for f32 {
    fn round(from: &[f64], to: &mut [Self]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = from as f32;
        }
    }

    fn setting(value: f64) -> f64 {
        f64::from(value as f32)
    }

    fn nearest(value: f64) -> f64 {
        f64::from(value as f32)
    }

    in_f32!();
}

macro_rules! sixteen_bits {
    ($($half:ident)+) => {$(
        impl Rounded for $half {
            fn round(from: &[f64], to: &mut [Self]) {
                for (to, from) in to.chunks_mut(super::BLOCK).zip(from.chunks(super::BLOCK)) {
                    let mut odd = [0f32; super::BLOCK];
                    for (odd, &from) in odd.iter_mut().zip(from) {
                        *odd = to_odd(from);
                    }
                    to.convert_from_f32_slice(&odd[..from.len()]);
                }
            }

            fn setting(value: f64) -> f64 {
                f64::from(value as f32)
            }

            fn nearest(value: f64) -> f64 {
                f64::from($half::from_f32(to_odd(value)))
            }

            in_f32!();
        }
    )+};
}
sixteen_bits!(f16 bf16);

/// `x` cut to f32, its last bit set where something was cut off. Rounding that to 16 bits gives what rounding `x` does:
/// no tie is made on the way, and none is lost.
///
/// # Source
///
/// Boldo and Melquiond, When double rounding is odd, 2005.
fn to_odd(x: f64) -> f32 {
    let near = x as f32;
    let back = f64::from(near);
    if back == x || x.is_nan() {
        return near;
    }
    let cut = if back.abs() > x.abs() { near.to_bits() - 1 } else { near.to_bits() };
    f32::from_bits(cut | 1)
}

impl Function {
    /// The function with its settings as elements of type `T` meet them.
    pub(super) fn rounded<T: Rounded>(self) -> Self {
        match self {
            // The ends are results.
            Self::Clamp { low, high } => Self::Clamp { low: T::nearest(low), high: T::nearest(high) },
            Self::Hardtanh { low, high } => Self::Hardtanh { low: T::nearest(low), high: T::nearest(high) },
            Self::Add { term } => Self::Add { term: T::setting(term) },
            Self::Scale { factor } => Self::Scale { factor: T::setting(factor) },
            Self::Divide { divisor } => Self::Divide { divisor: T::setting(divisor) },
            Self::Elu { alpha } => Self::Elu { alpha: T::setting(alpha) },
            Self::LeakyRelu { slope } => Self::LeakyRelu { slope: T::setting(slope) },
            Self::Power { exponent } => Self::Power { exponent: T::setting(exponent) },
            plain => plain,
        }
    }
}
