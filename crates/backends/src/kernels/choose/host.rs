//! The CPU: runs of the result.

use super::OP;
use crate::buffer::{In, Out, Ran, Scalar, Slice, Why};
use crate::simd::Isa;
use crate::simd::walk::{Made, Place, Walk, seen};
use crate::{Floats, Real};

pub(super) fn choose(isa: Isa, condition: &In<'_>, a: &In<'_>, b: &In<'_>, out: &mut Out<'_>) -> Ran {
    let walk = Walk::of(out.dims(), [condition.strides(), a.strides(), b.strides()]);
    let Slice::U8(condition) = condition.host_place() else {
        return Ran::Composed(Why::Dtype("the condition"));
    };
    let operands = (a.host_place().floats(), b.host_place().floats(), out.host_slice());
    let (Some(a), Some(b), Some(out)) = operands else { return Ran::Composed(Why::Device) };
    walk.write(isa, OP, Operands { condition, x: [a, b] }, out)
}

#[derive(Clone, Copy)]
struct Operands<'a> {
    condition: &'a [u8],
    x: [Floats<'a>; 2],
}

impl Made<3> for Operands<'_> {
    #[inline(always)]
    fn write<A: Real + Scalar>(self, from: [Place; 3], [first, second]: [&mut [A]; 2], to: &mut [A]) {
        let [(at, step), from_a, from_b] = from;
        let (a, b) = (seen(self.x[0], from_a, first), seen(self.x[1], from_b, second));
        let condition = &self.condition[at..];
        match step {
            0 => to.copy_from_slice(if condition[0] == 0 { b } else { a }),
            1 => choice(&condition[..to.len()], a, b, to),
            _ => choice(condition.iter().step_by(step), a, b, to),
        }
    }
}

#[inline(always)]
fn choice<'a, A: Real>(condition: impl IntoIterator<Item = &'a u8>, a: &[A], b: &[A], to: &mut [A]) {
    for (((to, &a), &b), &asked) in to.iter_mut().zip(a).zip(b).zip(condition) {
        *to = if asked == 0 { b } else { a };
    }
}
