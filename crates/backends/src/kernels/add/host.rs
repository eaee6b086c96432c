//! On the CPU: blocks that are widened, added and rounded in the first-level cache, on as many threads as are worth it.

use super::{Among, Sign};
use crate::buffer::{In, Out, Ran, Slice, SliceMut, Why};
use crate::{Floats, Real, Result, Store};
use rayon::prelude::*;

/// Elements that are worked on at a time, and per task.
const BLOCK: usize = 512;
const CHUNK: usize = 32 * BLOCK;

fn floats(slice: Slice<'_>) -> Option<Floats<'_>> {
    Some(match slice {
        Slice::F16(x) => Floats::F16(x),
        Slice::Bf16(x) => Floats::Bf16(x),
        Slice::F32(x) => Floats::F32(x),
        Slice::F64(x) => Floats::F64(x),
        _ => return None,
    })
}

pub(super) fn add(a: &In<'_>, b: &In<'_>, sign: Sign, out: &mut Out<'_>) -> Result<Ran> {
    let operands = (a.host_slice().and_then(floats), b.host_slice().and_then(floats), out.host_slice());
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
        for ((out, &a), &b) in out.iter_mut().zip(&a[at..]).zip(&b[at..]) {
            *out = a + sign * b;
        }
    });
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
    tasks(out, |at, out| {
        let (mut x, mut y) = ([A::ZERO; BLOCK], [A::ZERO; BLOCK]);
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            let sums = sums::<A>(a, b, at + block * BLOCK, &mut x[..out.len()], &mut y[..out.len()], sign);
            T::store(sums, out);
        }
    });
}

/// The sums of one block, which take the place of the first operand.
fn sums<'x, A: Real>(
    a: Floats<'_>,
    b: Floats<'_>,
    at: usize,
    x: &'x mut [A],
    y: &mut [A],
    sign: Sign,
) -> &'x mut [A] {
    let range = at..at + x.len();
    let (Some(a), Some(b)) = (a.get(range.clone()), b.get(range)) else { return x };
    A::load(a, x);
    A::load(b, y);
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
    let operands = (x.host_slice().and_then(floats), target.host_slice());
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

/// `runs` are the dimensions of `x` from the last.
fn into<T: Store<A>, A: Real>(x: Floats<'_>, runs: &[(usize, usize)], offset: usize, target: &mut [T]) {
    // A row of `x` is one run of the target's elements, if its last dimension is.
    let (row, outer) = match runs.split_first() {
        Some((&(len, 1), outer)) => (len, outer),
        _ => (1, runs),
    };
    let (mut wide, mut sum) = (vec![A::ZERO; row], vec![A::ZERO; row]);
    for (i, from) in (0..x.len()).step_by(row).enumerate() {
        let (mut rest, mut at) = (i, offset);
        for &(size, stride) in outer {
            at += rest % size * stride;
            rest /= size;
        }
        let Some(x) = x.get(from..from + row) else { return };
        let to = &mut target[at..at + row];
        A::load(x, &mut wide);
        A::load(T::floats(to), &mut sum);
        sum.iter_mut().zip(&wide).for_each(|(sum, &x)| *sum = *sum + x);
        T::store(&sum, to);
    }
}

pub(super) fn add_to_rows(row: &In<'_>, target: &mut Out<'_>) -> Result<Ran> {
    let operands = (row.host_slice().and_then(floats), target.host_slice());
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
    let mut wide = vec![A::ZERO; row.len()];
    A::load(row, &mut wide);
    let add = |part: &mut [T]| {
        let mut sums = vec![A::ZERO; wide.len()];
        for to in part.chunks_mut(wide.len()) {
            A::load(T::floats(to), &mut sums);
            sums.iter_mut().zip(&wide).for_each(|(sum, &x)| *sum = *sum + x);
            T::store(&sums, to);
        }
    };
    match target.len() > 2 * CHUNK {
        true => target.par_chunks_mut(CHUNK.div_ceil(wide.len()) * wide.len()).for_each(add),
        false => add(target),
    }
}
