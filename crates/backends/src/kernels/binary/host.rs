//! The CPU: runs of the result.

use super::{Binary, OP};
use crate::buffer::{In, Out, Ran, Scalar, Why};
use crate::simd::Isa;
use crate::simd::walk::{Made, Place, Walk, seen};
use crate::{Floats, Real};

pub(super) fn binary(isa: Isa, of: Binary, a: &In<'_>, b: &In<'_>, out: &mut Out<'_>) -> Ran {
    let walk = Walk::of(out.dims(), [a.strides(), b.strides()]);
    let operands = (a.host_place().floats(), b.host_place().floats(), out.host_slice());
    let (Some(a), Some(b), Some(out)) = operands else { return Ran::Composed(Why::Device) };
    walk.write(isa, OP, Operands { of, x: [a, b] }, out)
}

#[derive(Clone, Copy)]
struct Operands<'a> {
    of: Binary,
    x: [Floats<'a>; 2],
}

impl Made<2> for Operands<'_> {
    #[inline(always)]
    fn write<A: Real + Scalar>(self, from: [Place; 2], [first, second]: [&mut [A]; 2], to: &mut [A]) {
        let (a, b) = (seen(self.x[0], from[0], first), seen(self.x[1], from[1], second));
        let each = to.iter_mut().zip(a).zip(b);
        match self.of {
            Binary::Plus => each.for_each(|((to, &a), &b)| *to = a + b),
            Binary::Minus => each.for_each(|((to, &a), &b)| *to = a - b),
            Binary::Times => each.for_each(|((to, &a), &b)| *to = a * b),
            Binary::Over => each.for_each(|((to, &a), &b)| *to = a / b),
        }
    }
}
