//! The formulas, an element at a time.

use super::DifferenceLoss::{self, *};
use crate::Real;

impl DifferenceLoss {
    /// The loss of a difference.
    #[inline(always)]
    pub(super) fn value<A: Real>(self, d: A) -> A {
        let half = A::from_f64(0.5);
        match self {
            Square => d * d,
            Absolute => d.abs(),
            SmoothL1 { beta } if d.abs() < A::from_f64(beta) => (d * (d / A::from_f64(beta))) * half,
            SmoothL1 { beta } => d.abs() - A::from_f64(0.5 * beta),
            Huber { delta } if d.abs() < A::from_f64(delta) => d * (d * half),
            Huber { delta } => (d.abs() - A::from_f64(0.5 * delta)) * A::from_f64(delta),
        }
    }

    /// Its derivative.
    #[inline(always)]
    pub(super) fn slope<A: Real>(self, d: A) -> A {
        match self {
            Square => d * A::from_f64(2.),
            Absolute => sign(d),
            SmoothL1 { beta } if d.abs() < A::from_f64(beta) => d / A::from_f64(beta),
            SmoothL1 { .. } => sign(d),
            Huber { delta } if d.abs() < A::from_f64(delta) => d,
            Huber { delta } => sign(d) * A::from_f64(delta),
        }
    }
}

/// −1, 0 or 1, and NaN for NaN.
#[inline(always)]
fn sign<A: Real>(d: A) -> A {
    if d > A::ZERO {
        A::ONE
    } else if d < A::ZERO {
        -A::ONE
    } else {
        d
    }
}
