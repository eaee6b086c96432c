//! The CPU: rows shared out among threads.

use super::{Inputs, OP, Pairs, Turn};
use crate::Real;
use crate::buffer::{In, Out, Ran, Slice, SliceMut, Why};
use crate::simd::convert::Stored;
use crate::simd::rows::PARALLEL;
use crate::simd::{Isa, Simd, Work};
use rayon::prelude::*;

pub(super) fn rotate(isa: Isa, inputs: Inputs<'_>, pairs: Pairs, turn: Turn, out: &mut Out<'_>) -> Ran {
    let Inputs { x, cos, sin } = inputs;
    let width = x.dims().last().copied().unwrap_or(0);
    if x.count() == 0 {
        return Ran::Kernel(OP);
    }
    let starts = [x, cos, sin].map(starts);
    let how = How { width, pairs, turn, starts: starts.each_ref().map(|starts| &starts[..]) };
    match (x.host_place(), cos.host_place(), sin.host_place(), out.host_slice()) {
        (Slice::F64(x), Slice::F64(cos), Slice::F64(sin), Some(SliceMut::F64(out))) => {
            how.shared_out(isa, x, [cos, sin], out);
        }
        (x, Slice::F32(cos), Slice::F32(sin), Some(out)) => match (x, out) {
            (Slice::F16(x), SliceMut::F16(out)) => how.shared_out(isa, x, [cos, sin], out),
            (Slice::Bf16(x), SliceMut::Bf16(out)) => how.shared_out(isa, x, [cos, sin], out),
            (Slice::F32(x), SliceMut::F32(out)) => how.shared_out(isa, x, [cos, sin], out),
            _ => return Ran::Composed(Why::Dtype("x")),
        },
        _ => return Ran::Composed(Why::Dtype("x")),
    }
    Ran::Kernel(OP)
}

/// Where each row begins.
fn starts(x: &In<'_>) -> Vec<usize> {
    let mut starts = vec![0];
    let outer = x.dims().len().saturating_sub(1);
    for (&size, &step) in x.dims()[..outer].iter().zip(x.strides()) {
        starts = starts.iter().flat_map(|start| (0..size).map(move |i| start + i * step)).collect();
    }
    starts
}

#[derive(Clone, Copy)]
struct How<'a> {
    width: usize,
    pairs: Pairs,
    turn: Turn,
    /// Of the rows of `x` and of the angles.
    starts: [&'a [usize]; 3],
}

impl How<'_> {
    fn shared_out<T: Real, X: Stored<T>>(self, isa: Isa, x: &[X], angles: [&[T]; 2], out: &mut [X]) {
        let each = (PARALLEL / self.width).max(1);
        let tasks = out.par_chunks_mut(each * self.width).enumerate();
        tasks.for_each(|(i, out)| isa.run(Rows { how: self, first: i * each, x, angles, out }));
    }
}

/// Rows from one on.
struct Rows<'a, X, T> {
    how: How<'a>,
    first: usize,
    x: &'a [X],
    angles: [&'a [T]; 2],
    out: &'a mut [X],
}

impl<T: Real, X: Stored<T>> Work for Rows<'_, X, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let How { width, pairs, turn, starts } = self.how;
        let (mut wide, mut made) = (vec![T::ZERO; width], vec![T::ZERO; width]);
        for (row, out) in (self.first..).zip(self.out.chunks_exact_mut(width)) {
            let x = X::seen(simd, &self.x[starts[0][row]..][..width], &mut wide);
            let angles = [1, 2].map(|i| &self.angles[i - 1][starts[i][row]..][..width / 2]);
            match X::in_place(out) {
                Some(out) => turned(pairs, turn, x, angles, out),
                None => {
                    turned(pairs, turn, x, angles, &mut made);
                    X::write(simd, &made, out);
                }
            }
        }
    }
}

#[inline(always)]
fn turned<T: Real>(pairs: Pairs, turn: Turn, x: &[T], [cos, sin]: [&[T]; 2], out: &mut [T]) {
    let angles = cos.iter().zip(sin);
    let sign = if turn == Turn::Forth { T::ONE } else { -T::ONE };
    let pair = |[a, b]: [T; 2], [cos, sin]: [T; 2]| {
        let sin = sign * sin;
        [a * cos - b * sin, a * sin + b * cos]
    };
    match pairs {
        Pairs::Halves => {
            let ((a, b), (first, second)) = (x.split_at(cos.len()), out.split_at_mut(cos.len()));
            let to = first.iter_mut().zip(second);
            for (((&a, &b), (&cos, &sin)), (first, second)) in a.iter().zip(b).zip(angles).zip(to) {
                [*first, *second] = pair([a, b], [cos, sin]);
            }
        }
        Pairs::Interleaved => {
            let to = out.as_chunks_mut::<2>().0.iter_mut();
            for ((&both, (&cos, &sin)), to) in x.as_chunks::<2>().0.iter().zip(angles).zip(to) {
                *to = pair(both, [cos, sin]);
            }
        }
    }
}
