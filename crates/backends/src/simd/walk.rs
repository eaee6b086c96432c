//! Operands of any strides (0 where one is repeated), walked together: a run of the last dimension at a time, which is read where it lies or
//! brought to the type of the arithmetic.

use super::convert::{Stored, wide_bf16};
use super::{Isa, Simd, Work};
use crate::buffer::{In, Out, Ran, Scalar, ScalarType, SliceMut, Why};
use crate::{Error, Floats, Real, Result};
use half::f16;
use rayon::prelude::*;
use std::marker::PhantomData;

/// Elements of a run, at most: those of all operands are in the first-level cache.
const BLOCK: usize = 512;
/// Elements of a task.
const CHUNK: usize = 32 * BLOCK;

/// Holds operands to the dimensions of what is written.
///
/// # Errors
///
/// [`Error::Operand`] for other dimensions.
pub(crate) fn check_dims<const N: usize>(
    op: &'static str,
    operands: [(&'static str, &In<'_>); N],
    out: &Out<'_>,
) -> Result<()> {
    match operands.into_iter().find(|(_, x)| x.dims() != out.dims()) {
        None => Ok(()),
        Some((argument, x)) => {
            let expected = format!("the dimensions {:?}", out.dims());
            Err(Error::Operand { op, argument, expected, got: format!("{:?}", x.dims()) })
        }
    }
}

/// Why operands are not taken: one that is not of floats, or of f64 where what is written is not.
pub(crate) fn check_types(operands: [(&'static str, &In<'_>); 2], out: &Out<'_>) -> Option<Why> {
    let is_taken = |of: ScalarType| of.is_float() && (of != ScalarType::F64 || out.scalar_type() == of);
    let refused = operands.into_iter().find(|(_, x)| !is_taken(x.scalar_type()));
    refused.map(|(argument, _)| Why::Dtype(argument))
}

/// Dimensions from the last on, those merged that all operands walk as one, with the operands' strides.
pub(crate) struct Walk<const N: usize> {
    /// The last.
    inner: (usize, [usize; N]),
    outer: Vec<(usize, [usize; N])>,
}

/// Where an operand's first element of a run is, and how far apart they are.
pub(crate) type Place = (usize, usize);

/// What is made of the operands, a run at a time, in the type of the arithmetic.
pub(crate) trait Made<const N: usize>: Copy + Send + Sync {
    /// Writes the elements of a run; the buffers are as long.
    fn write<A: Real + Scalar>(self, from: [Place; N], buffers: [&mut [A]; 2], to: &mut [A]);
}

impl<const N: usize> Walk<N> {
    pub(crate) fn of(dims: &[usize], strides: [&[usize]; N]) -> Self {
        let mut merged: Vec<(usize, [usize; N])> = Vec::new();
        for (i, &size) in dims.iter().enumerate().rev().filter(|&(_, &size)| size != 1) {
            let steps = strides.map(|strides| strides[i]);
            match merged.last_mut() {
                Some((len, inner)) if inner.map(|inner| len.checked_mul(inner)) == steps.map(Some) => {
                    *len *= size;
                }
                _ => merged.push((size, steps)),
            }
        }
        let inner = if merged.is_empty() { (1, [0; N]) } else { merged.remove(0) };
        Self { inner, outer: merged }
    }

    /// Writes `out`, by way of f32, or of f64 where it is of f64.
    pub(crate) fn write(&self, isa: Isa, op: &'static str, made: impl Made<N>, out: SliceMut<'_>) -> Ran {
        match out {
            SliceMut::F16(out) => self.shared_out::<f32, _>(isa, made, out),
            SliceMut::Bf16(out) => self.shared_out::<f32, _>(isa, made, out),
            SliceMut::F32(out) => self.shared_out::<f32, _>(isa, made, out),
            SliceMut::F64(out) => self.shared_out::<f64, _>(isa, made, out),
            _ => return Ran::Composed(Why::Dtype("the result")),
        }
        Ran::Kernel(op)
    }

    fn shared_out<A: Real + Scalar, T: Stored<A>>(&self, isa: Isa, made: impl Made<N>, out: &mut [T]) {
        let task = |(i, out): (usize, &mut [T])| {
            isa.run(Part { walk: self, made, at: i * CHUNK, out, by_way_of: PhantomData::<A> });
        };
        match out.len() > 2 * CHUNK {
            true => out.par_chunks_mut(CHUNK).enumerate().for_each(task),
            false => task((0, out)),
        }
    }

    /// How long the run is that begins with an element, at most `most`, and where its elements are.
    #[inline(always)]
    fn run(&self, element: usize, most: usize) -> (usize, [Place; N]) {
        let (width, steps) = self.inner;
        let (mut row, within) = (element / width, element % width);
        let mut from = steps.map(|step| (within * step, step));
        for (size, steps) in &self.outer {
            let index = row % size;
            row /= size;
            from.iter_mut().zip(steps).for_each(|((at, _), step)| *at += index * step);
        }
        ((width - within).min(most).min(BLOCK), from)
    }
}

/// Elements of the result, from one on.
struct Part<'a, const N: usize, M, T, A> {
    walk: &'a Walk<N>,
    made: M,
    at: usize,
    out: &'a mut [T],
    by_way_of: PhantomData<A>,
}

impl<const N: usize, M: Made<N>, A: Real + Scalar, T: Stored<A>> Work for Part<'_, N, M, T, A> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { walk, made, at, out, .. } = self;
        let mut buffers = [[A::ZERO; BLOCK]; 3];
        let [first, second, wide] = &mut buffers;
        let mut done = 0;
        while done < out.len() {
            let (len, from) = walk.run(at + done, out.len() - done);
            let (buffers, out) = ([&mut first[..len], &mut second[..len]], &mut out[done..done + len]);
            match T::in_place(out) {
                Some(out) => made.write(from, buffers, out),
                None => {
                    made.write(from, buffers, &mut wide[..len]);
                    T::write(simd, &wide[..len], out);
                }
            }
            done += len;
        }
    }
}

/// As many elements as `buffer` has, from one on and so far apart: where they lie, or in the buffer.
#[inline(always)]
pub(crate) fn seen<'a, A: Real + Scalar>(x: Floats<'a>, (at, step): Place, buffer: &'a mut [A]) -> &'a [A] {
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
fn gather<T: Copy, A>(x: &[T], (at, step): Place, to: &mut [A], of: impl Fn(T) -> A) {
    to.iter_mut().zip(x[at..].iter().step_by(step)).for_each(|(to, &x)| *to = of(x));
}
