//! On the CPU: blocks that are widened, added and rounded in the first-level cache, on as many threads as are worth it.

use super::{Among, Sign};
use crate::buffer::{In, Out, Ran, Slice, SliceMut, Why};
use crate::simd::{Isa, Simd, Work};
use crate::{Floats, Real, Result, Store};
use rayon::prelude::*;
use std::marker::PhantomData;
use std::ops::Range;

/// Elements that are worked on at a time, and per task.
const BLOCK: usize = 512;
const CHUNK: usize = 32 * BLOCK;

pub(super) fn add(a: &In<'_>, b: &In<'_>, sign: Sign, out: &mut Out<'_>) -> Result<Ran> {
    let operands =
        (a.host_slice().and_then(Slice::floats), b.host_slice().and_then(Slice::floats), out.host_slice());
    let (Some(a), Some(b), Some(out)) = operands else { return Ok(Ran::Composed(Why::Device)) };
    let wide = matches!(a, Floats::F64(_)) || matches!(b, Floats::F64(_));
    match (out, a, b) {
        // What needs no other type is one loop.
        (SliceMut::F32(out), Floats::F32(a), Floats::F32(b)) => plain(a, b, out, sign.factor() as f32),
        (SliceMut::F64(out), Floats::F64(a), Floats::F64(b)) => plain(a, b, out, sign.factor()),
        (SliceMut::F64(out), a, b) => blocks::<f64, f64>(a, b, out, sign),
        (SliceMut::F32(out), a, b) if wide => rounded(a, b, sign, out, |x| x as f32),
        (SliceMut::F32(out), a, b) => blocks::<f32, f32>(a, b, out, sign),
        (SliceMut::F16(out), a, b) if !wide => blocks::<_, f32>(a, b, out, sign),
        (SliceMut::Bf16(out), a, b) if !wide => blocks::<_, f32>(a, b, out, sign),
        // An f64 to 16 bits: by way of the f32 that remembers whether there was more.
        _ => return Ok(Ran::Composed(Why::Dtype("the result"))),
    }
    Ok(Ran::Kernel("add"))
}

fn plain<T>(a: &[T], b: &[T], out: &mut [T], sign: T)
where
    T: Copy + Send + Sync + std::ops::Add<Output = T> + std::ops::Mul<Output = T>,
{
    tasks(out, |at, out| {
        for (range, second) in repeated(at, out.len(), b.len()) {
            let a = &a[at..][range.clone()];
            for ((out, &a), &b) in out[range].iter_mut().zip(a).zip(&b[second..]) {
                *out = a + sign * b;
            }
        }
    });
}

/// The parts of a range of `len` elements from `at` on which do not pass an end of what is repeated every `period`, and where in that
/// they begin.
fn repeated(at: usize, len: usize, period: usize) -> impl Iterator<Item = (Range<usize>, usize)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let second = (at + from) % period.max(1);
        let range = from..len.min(from + (period - second));
        from = range.end;
        (!range.is_empty()).then_some((range, second))
    })
}

fn rounded<T: Send>(
    a: Floats<'_>,
    b: Floats<'_>,
    sign: Sign,
    out: &mut [T],
    round: impl Fn(f64) -> T + Sync,
) {
    tasks(out, |at, out| {
        let (mut x, mut y) = ([0.; BLOCK], [0.; BLOCK]);
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            let sums = sums::<f64>(a, b, at + block * BLOCK, &mut x[..out.len()], &mut y[..out.len()], sign);
            out.iter_mut().zip(sums).for_each(|(out, &mut sum)| *out = round(sum));
        }
    });
}

fn blocks<T: Store<A>, A: Real>(a: Floats<'_>, b: Floats<'_>, out: &mut [T], sign: Sign) {
    tasks(out, |at, out| Isa::best().run(Sums { a, b, sign, at, out, of: PhantomData::<A> }));
}

struct Sums<'a, T, A> {
    a: Floats<'a>,
    b: Floats<'a>,
    sign: Sign,
    at: usize,
    out: &'a mut [T],
    of: PhantomData<A>,
}

impl<T: Store<A>, A: Real> Work for Sums<'_, T, A> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { a, b, sign, at, out, .. } = self;
        let (mut x, mut y) = ([A::ZERO; BLOCK], [A::ZERO; BLOCK]);
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            let sums = sums::<A>(a, b, at + block * BLOCK, &mut x[..out.len()], &mut y[..out.len()], sign);
            T::store(sums, out);
        }
    }
}

/// The sums of one block, which take the place of the first operand.
#[inline(always)]
fn sums<'x, A: Real>(
    a: Floats<'_>,
    b: Floats<'_>,
    at: usize,
    x: &'x mut [A],
    y: &mut [A],
    sign: Sign,
) -> &'x mut [A] {
    let Some(a) = a.get(at..at + x.len()) else { return x };
    A::load(a, x);
    for (range, second) in repeated(at, x.len(), b.len()) {
        let Some(b) = b.get(second..second + range.len()) else { return x };
        A::load(b, &mut y[range]);
    }
    let sign = A::from_f64(sign.factor());
    x.iter_mut().zip(&*y).for_each(|(x, &y)| *x = *x + sign * y);
    x
}

fn tasks<T: Send>(out: &mut [T], task: impl Fn(usize, &mut [T]) + Sync) {
    match out.len() > 2 * CHUNK {
        true => out.par_chunks_mut(CHUNK).enumerate().for_each(|(i, out)| task(i * CHUNK, out)),
        false => task(0, out),
    }
}

pub(super) fn add_to_part(x: &In<'_>, among: &Among, target: &mut Out<'_>) -> Result<Ran> {
    let runs = among.merged(x.dims());
    let operands = (x.host_slice().and_then(Slice::floats), target.host_slice());
    let (Some(x), Some(target)) = operands else { return Ok(Ran::Composed(Why::Device)) };
    match target {
        SliceMut::F16(target) => into::<_, f32>(x, &runs, among.offset, target),
        SliceMut::Bf16(target) => into::<_, f32>(x, &runs, among.offset, target),
        SliceMut::F32(target) => into::<_, f32>(x, &runs, among.offset, target),
        SliceMut::F64(target) => into::<_, f64>(x, &runs, among.offset, target),
        _ => return Ok(Ran::Composed(Why::Dtype("the target"))),
    }
    Ok(Ran::Kernel("add_into"))
}

/// `runs` are the dimensions of `x` from the last, with their strides in the target.
fn into<T: Store<A>, A: Real>(x: Floats<'_>, runs: &[(usize, usize)], offset: usize, target: &mut [T]) {
    // A row of `x` is one run of the target's elements, if its last dimension is.
    let (row, outer) = match runs.split_first() {
        Some((&(len, 1), outer)) => (len, outer),
        _ => (1, runs),
    };
    // Where the outermost dimension has the widest steps, what lies between two of them is one part's.
    let widest = outer.split_last().filter(|(last, rest)| rest.iter().all(|(_, stride)| *stride < last.1));
    match widest {
        Some((&(size, stride), inner)) if x.len() > 2 * CHUNK => {
            let each = x.len() / size;
            let parts = target[offset..].par_chunks_mut(stride).take(size).enumerate();
            parts.with_min_len(CHUNK.div_ceil(each)).for_each(|(i, part)| {
                if let Some(x) = x.get(i * each..(i + 1) * each) {
                    add_rows(x, row, inner, part);
                }
            });
        }
        _ => add_rows(x, row, outer, &mut target[offset..]),
    }
}

/// Adds rows of `x` to where `outer`, its dimensions from the last but one, leads in the target.
fn add_rows<T: Store<A>, A: Real>(x: Floats<'_>, row: usize, outer: &[(usize, usize)], target: &mut [T]) {
    for (i, from) in (0..x.len()).step_by(row).enumerate() {
        let (mut rest, mut at) = (i, 0);
        for &(size, stride) in outer {
            at += rest % size * stride;
            rest /= size;
        }
        if let Some(x) = x.get(from..from + row) {
            add_row(x, &mut target[at..at + row]);
        }
    }
}

/// `to[i] += x[i]`, by blocks.
struct AddTo<'a, T, A>(Floats<'a>, &'a mut [T], PhantomData<A>);

impl<T: Store<A>, A: Real> Work for AddTo<'_, T, A> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let (mut wide, mut sums) = ([A::ZERO; BLOCK], [A::ZERO; BLOCK]);
        for (i, to) in self.1.chunks_mut(BLOCK).enumerate() {
            let (wide, sums) = (&mut wide[..to.len()], &mut sums[..to.len()]);
            let Some(x) = self.0.get(i * BLOCK..i * BLOCK + to.len()) else { return };
            A::load(x, wide);
            A::load(T::floats(to), sums);
            sums.iter_mut().zip(&*wide).for_each(|(sum, &x)| *sum = *sum + x);
            T::store(sums, to);
        }
    }
}

fn add_row<T: Store<A>, A: Real>(x: Floats<'_>, to: &mut [T]) {
    Isa::best().run(AddTo(x, to, PhantomData::<A>));
}

pub(super) fn add_to_rows(row: &In<'_>, target: &mut Out<'_>) -> Result<Ran> {
    let operands = (row.host_slice().and_then(Slice::floats), target.host_slice());
    let (Some(row), Some(target)) = operands else { return Ok(Ran::Composed(Why::Device)) };
    match target {
        SliceMut::F16(target) => to_rows::<_, f32>(row, target),
        SliceMut::Bf16(target) => to_rows::<_, f32>(row, target),
        SliceMut::F32(target) => to_rows::<_, f32>(row, target),
        SliceMut::F64(target) => to_rows::<_, f64>(row, target),
        _ => return Ok(Ran::Composed(Why::Dtype("the target"))),
    }
    Ok(Ran::Kernel("add_row"))
}

fn to_rows<T: Store<A>, A: Real>(row: Floats<'_>, target: &mut [T]) {
    let width = row.len();
    let add = |part: &mut [T]| part.chunks_mut(width).for_each(|to| add_row(row, to));
    match target.len() > 2 * CHUNK {
        true => target.par_chunks_mut(CHUNK.div_ceil(width) * width).for_each(add),
        false => add(target),
    }
}
