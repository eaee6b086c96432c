//! The oracle, a pair at a time in the type of the arithmetic.

use super::Turn;
use crate::Real;

/// A pair, turned.
pub fn rotate_scalar<T: Real>([a, b]: [T; 2], [cos, sin]: [T; 2], turn: Turn) -> [T; 2] {
    match turn {
        Turn::Forth => [a * cos - b * sin, a * sin + b * cos],
        Turn::Back => [a * cos + b * sin, b * cos - a * sin],
    }
}
