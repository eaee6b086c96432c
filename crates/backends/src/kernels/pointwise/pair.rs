//! Functions of pairs of elements: powers, and the larger and smaller of two.

use super::power::{power, power_slope, power_slope_of_exponent};
use super::{BLOCK, Rounded, check_length, in_blocks, load};
use crate::{Floats, Real, Result};

/// A function of two elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pair {
    /// `a` to the power of `b`.
    Power,
}

impl Pair {
    fn value(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Power => power(a, b),
        }
    }

    /// The gradients of `a` and `b` for the gradient `g` of the value.
    fn gradients(self, a: f64, b: f64, g: f64) -> [f64; 2] {
        match self {
            Self::Power => [g * power_slope(a, b), g * power_slope_of_exponent(a, b)],
        }
    }
}

/// `pair` of each element of `a` and the one of `b` in its place.
///
/// # Errors
///
/// [`Error::LengthMismatch`](crate::Error::LengthMismatch).
pub fn pair_values<T: Rounded>(pair: Pair, a: &[T], b: Floats<'_>) -> Result<Vec<T>> {
    check_length("b", a.len(), b.len())?;
    Ok(in_blocks(a.len(), |at, block| {
        let mut other = [0.; BLOCK];
        let other = &mut other[..block.len()];
        f64::load(T::floats(&a[at..at + block.len()]), block);
        load(b, at, other);
        block.iter_mut().zip(&*other).for_each(|(a, &b)| *a = pair.value(*a, b));
    }))
}

/// The gradients of `a` and `b` from that of their `pair`.
///
/// # Errors
///
/// [`Error::LengthMismatch`](crate::Error::LengthMismatch).
pub fn pair_gradients<T: Rounded>(
    pair: Pair,
    a: &[T],
    b: Floats<'_>,
    grad: Floats<'_>,
) -> Result<[Vec<T>; 2]> {
    check_length("b", a.len(), b.len())?;
    check_length("grad", a.len(), grad.len())?;
    let gradient = |which: usize| {
        in_blocks(a.len(), |at, block| {
            let (mut first, mut second) = ([0.; BLOCK], [0.; BLOCK]);
            let (first, second) = (&mut first[..block.len()], &mut second[..block.len()]);
            f64::load(T::floats(&a[at..at + block.len()]), first);
            load(b, at, second);
            load(grad, at, block);
            for ((g, &a), &b) in block.iter_mut().zip(&*first).zip(&*second) {
                *g = pair.gradients(a, b, *g)[which];
            }
        })
    };
    Ok([gradient(0), gradient(1)])
}
