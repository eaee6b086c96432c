//! The CPU: blocks of the result, whose operands are read where they lie or brought to the type of the arithmetic in the first-level cache.

use super::{Binary, OP};
use crate::buffer::{In, Out, Ran, Scalar, SliceMut, Why};
use crate::simd::convert::{Stored, wide_bf16};
use crate::simd::{Isa, Simd, Work};
use crate::{Floats, Real};
use half::f16;
use rayon::prelude::*;
use std::marker::PhantomData;

/// Elements that are worked on at a time, and per task.
const BLOCK: usize = 512;
const CHUNK: usize = 32 * BLOCK;

pub(super) fn binary(isa: Isa, of: Binary, a: &In<'_>, b: &In<'_>, out: &mut Out<'_>) -> Ran {
    let walk = Walk::of(out.dims(), [a.strides(), b.strides()]);
    let operands = (a.host_place().floats(), b.host_place().floats(), out.host_slice());
    let (Some(a), Some(b), Some(out)) = operands else { return Ran::Composed(Why::Device) };
    let operands = Operands { of, walk: &walk, x: [a, b] };
    match out {
        SliceMut::F16(out) => operands.shared_out::<f32, _>(isa, out),
        SliceMut::Bf16(out) => operands.shared_out::<f32, _>(isa, out),
        SliceMut::F32(out) => operands.shared_out::<f32, _>(isa, out),
        SliceMut::F64(out) => operands.shared_out::<f64, _>(isa, out),
        _ => return Ran::Composed(Why::Dtype("the result")),
    }
    Ran::Kernel(OP)
}

/// Dimensions from the last on, those merged that both operands walk as one, with the operands' strides.
struct Walk {
    /// The last.
    inner: (usize, [usize; 2]),
    outer: Vec<(usize, [usize; 2])>,
}

impl Walk {
    fn of(dims: &[usize], strides: [&[usize]; 2]) -> Self {
        let mut merged: Vec<(usize, [usize; 2])> = Vec::new();
        for (i, &size) in dims.iter().enumerate().rev().filter(|&(_, &size)| size != 1) {
            let steps = strides.map(|strides| strides[i]);
            match merged.last_mut() {
                Some((len, inner)) if inner.map(|inner| len.checked_mul(inner)) == steps.map(Some) => {
                    *len *= size;
                }
                _ => merged.push((size, steps)),
            }
        }
        let inner = if merged.is_empty() { (1, [0; 2]) } else { merged.remove(0) };
        Self { inner, outer: merged }
    }

    /// Where the operands of a row of the inner dimension begin.
    #[inline(always)]
    fn starts(&self, mut row: usize) -> [usize; 2] {
        let mut starts = [0; 2];
        for (size, steps) in &self.outer {
            let index = row % size;
            row /= size;
            starts.iter_mut().zip(steps).for_each(|(start, step)| *start += index * step);
        }
        starts
    }
}

#[derive(Clone, Copy)]
struct Operands<'a> {
    of: Binary,
    walk: &'a Walk,
    x: [Floats<'a>; 2],
}

impl Operands<'_> {
    fn shared_out<A: Real + Scalar, T: Stored<A>>(self, isa: Isa, out: &mut [T]) {
        let task = |(i, out): (usize, &mut [T])| {
            isa.run(Part { operands: self, at: i * CHUNK, out, by_way_of: PhantomData::<A> });
        };
        match out.len() > 2 * CHUNK {
            true => out.par_chunks_mut(CHUNK).enumerate().for_each(task),
            false => task((0, out)),
        }
    }
}

/// Elements of the result, from one on.
struct Part<'a, T, A> {
    operands: Operands<'a>,
    at: usize,
    out: &'a mut [T],
    by_way_of: PhantomData<A>,
}

impl<A: Real + Scalar, T: Stored<A>> Work for Part<'_, T, A> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Operands { of, walk, x } = self.operands;
        let mut buffers = [[A::ZERO; BLOCK]; 3];
        let [first, second, made] = &mut buffers;
        let (width, steps) = walk.inner;
        let mut done = 0;
        while done < self.out.len() {
            let (row, within) = ((self.at + done) / width, (self.at + done) % width);
            let starts = walk.starts(row);
            let len = (width - within).min(self.out.len() - done).min(BLOCK);
            let from = |i: usize| (starts[i] + within * steps[i], steps[i]);
            let a = seen(x[0], from(0), &mut first[..len]);
            let b = seen(x[1], from(1), &mut second[..len]);
            let out = &mut self.out[done..done + len];
            match T::in_place(out) {
                Some(out) => combine(of, a, b, out),
                None => {
                    combine(of, a, b, &mut made[..len]);
                    T::write(simd, &made[..len], out);
                }
            }
            done += len;
        }
    }
}

/// As many elements as `buffer` has, from one on and so far apart: where they lie, or in the buffer.
#[inline(always)]
fn seen<'a, A: Real + Scalar>(x: Floats<'a>, (at, step): (usize, usize), buffer: &'a mut [A]) -> &'a [A] {
    if step == 1 {
        let Some(x) = x.get(at..at + buffer.len()) else { return buffer };
        if let Some(own) = A::read(x.into()) {
            return own;
        }
        A::load(x, buffer);
    } else if step == 0 {
        let mut one = [A::ZERO];
        if let Some(x) = x.get(at..at + 1) {
            A::load(x, &mut one);
        }
        buffer.fill(one[0]);
    } else {
        match x {
            Floats::F16(x) => gather(x, (at, step), buffer, |x: f16| A::from_f64(x.to_f64())),
            Floats::Bf16(x) => gather(x, (at, step), buffer, |x| A::from_f64(wide_bf16(x).into())),
            Floats::F32(x) => gather(x, (at, step), buffer, |x| A::from_f64(x.into())),
            Floats::F64(x) => gather(x, (at, step), buffer, A::from_f64),
        }
    }
    buffer
}

#[inline(always)]
fn gather<T: Copy, A>(x: &[T], (at, step): (usize, usize), to: &mut [A], of: impl Fn(T) -> A) {
    to.iter_mut().zip(x[at..].iter().step_by(step)).for_each(|(to, &x)| *to = of(x));
}

#[inline(always)]
fn combine<A: Real>(of: Binary, a: &[A], b: &[A], out: &mut [A]) {
    let each = out.iter_mut().zip(a).zip(b);
    match of {
        Binary::Plus => each.for_each(|((out, &a), &b)| *out = a + b),
        Binary::Minus => each.for_each(|((out, &a), &b)| *out = a - b),
        Binary::Times => each.for_each(|((out, &a), &b)| *out = a * b),
        Binary::Over => each.for_each(|((out, &a), &b)| *out = a / b),
    }
}
