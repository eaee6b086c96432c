//! On the CPU: blocks that are widened, computed and rounded in the first-level cache, on as many threads as are worth it.

use super::{DifferenceLoss, RUN, wide};
use crate::buffer::{In, Out, Ran, Slice, SliceMut, Why};
use crate::{Element, Floats, Real, Result, Store};
use rayon::prelude::*;

/// Elements that are worked on at a time; a task has [`RUN`].
const BLOCK: usize = 512;

/// The operands, which were checked to be of one length.
#[derive(Clone, Copy)]
struct Operands<'a> {
    x: Floats<'a>,
    t: Floats<'a>,
}

impl<'a> Operands<'a> {
    fn of(x: &In<'a>, t: &In<'a>) -> Option<Self> {
        Some(Self { x: x.host_slice()?.floats()?, t: t.host_slice()?.floats()? })
    }

    /// The differences from an index on, as many as `d` has, which is no longer than a block.
    fn differences<A: Real>(self, at: usize, d: &mut [A]) {
        let mut other = [A::ZERO; BLOCK];
        let other = &mut other[..d.len()];
        load(self.x, at, d);
        load(self.t, at, other);
        d.iter_mut().zip(&*other).for_each(|(d, &t)| *d = *d - t);
    }
}

/// As many elements as `to` has, from an index on.
fn load<A: Real>(from: Floats<'_>, at: usize, to: &mut [A]) {
    if let Some(part) = from.get(at..at + to.len()) {
        A::load(part, to);
    }
}

/// Fills `out` by blocks: `compute` those that start at an index, `round` what it computed.
fn fill<T: Element, A: Real>(
    out: &mut [T],
    compute: impl Fn(usize, &mut [A]) + Sync,
    round: impl Fn(&[A], &mut [T]) + Sync,
) {
    let task = |(run, out): (usize, &mut [T])| {
        let mut block = [A::ZERO; BLOCK];
        for (i, out) in out.chunks_mut(BLOCK).enumerate() {
            let block = &mut block[..out.len()];
            compute(run * RUN + i * BLOCK, block);
            round(block, out);
        }
    };
    match out.len() > 2 * RUN {
        true => out.par_chunks_mut(RUN).enumerate().for_each(task),
        false => out.chunks_mut(RUN).enumerate().for_each(task),
    }
}

/// [`fill`] for whatever the result is of, computing in f64 where `wide`.
fn fill_any(
    out: &mut Out<'_>,
    wide: bool,
    narrow_block: impl Fn(usize, &mut [f32]) + Sync,
    wide_block: impl Fn(usize, &mut [f64]) + Sync,
) -> Result<Ran> {
    match (out.host_slice(), wide) {
        (Some(SliceMut::F16(out)), false) => fill(out, narrow_block, Store::store),
        (Some(SliceMut::Bf16(out)), false) => fill(out, narrow_block, Store::store),
        (Some(SliceMut::F32(out)), false) => fill(out, narrow_block, Store::store),
        (Some(SliceMut::F64(out)), false) => {
            fill(out, narrow_block, |block, out| f64::load(Floats::F32(block), out));
        }
        (Some(SliceMut::F32(out)), true) => {
            fill(out, wide_block, |block, out| f32::load(Floats::F64(block), out));
        }
        (Some(SliceMut::F64(out)), true) => fill(out, wide_block, Store::store),
        _ => return Ok(Ran::Composed(Why::Dtype("the result"))),
    }
    Ok(Ran::Kernel(super::OP))
}

pub(super) fn losses(loss: DifferenceLoss, x: &In<'_>, t: &In<'_>, out: &mut Out<'_>) -> Result<Ran> {
    fn block<A: Real>(loss: DifferenceLoss, of: Operands<'_>, at: usize, d: &mut [A]) {
        of.differences(at, d);
        d.iter_mut().for_each(|d| *d = loss.value(*d));
    }
    let wide = wide(x, t);
    let Some(of) = Operands::of(x, t) else { return Ok(Ran::Composed(Why::Device)) };
    fill_any(out, wide, |at, d| block(loss, of, at, d), |at, d| block(loss, of, at, d))
}

pub(super) fn sums(loss: DifferenceLoss, x: &In<'_>, t: &In<'_>, out: &mut Out<'_>) -> Result<Ran> {
    let (len, of) = (x.count(), Operands::of(x, t));
    let (Some(of), Some(SliceMut::F64(out))) = (of, out.host_slice()) else {
        return Ok(Ran::Composed(Why::Device));
    };
    out.par_iter_mut().enumerate().for_each(|(run, out)| {
        let (end, mut block) = (len.min((run + 1) * RUN), [0f32; BLOCK]);
        *out = 0.;
        for at in (run * RUN..end).step_by(BLOCK) {
            let block = &mut block[..BLOCK.min(end - at)];
            of.differences(at, block);
            *out += block.iter().map(|&d| f64::from(loss.value(d))).sum::<f64>();
        }
    });
    Ok(Ran::Kernel(super::OP))
}

pub(super) fn gradient(
    loss: DifferenceLoss,
    x: &In<'_>,
    t: &In<'_>,
    grad: &In<'_>,
    divisor: f64,
    out: &mut Out<'_>,
) -> Result<Ran> {
    fn block<A: Real>(gradient: &Gradient<'_>, at: usize, d: &mut [A]) {
        let (mut grads, divisor) = ([A::ZERO; BLOCK], A::from_f64(gradient.divisor));
        gradient.of.differences(at, d);
        match gradient.grad.len() {
            1 => {
                load(gradient.grad, 0, &mut grads[..1]);
                let grad = grads[0];
                grads.fill(grad);
            }
            _ => load(gradient.grad, at, &mut grads[..d.len()]),
        }
        d.iter_mut().zip(&grads).for_each(|(d, &grad)| *d = gradient.loss.slope(*d) * (grad / divisor));
    }
    let wide = wide(x, t);
    let (Some(of), Some(grad)) = (Operands::of(x, t), grad.host_slice().and_then(Slice::floats)) else {
        return Ok(Ran::Composed(Why::Device));
    };
    let gradient = Gradient { loss, of, grad, divisor };
    fill_any(out, wide, |at, d| block(&gradient, at, d), |at, d| block(&gradient, at, d))
}

struct Gradient<'a> {
    loss: DifferenceLoss,
    of: Operands<'a>,
    /// One element, or as many as the operands have.
    grad: Floats<'a>,
    divisor: f64,
}
