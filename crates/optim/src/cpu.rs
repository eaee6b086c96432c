//! The step on the CPU: candle's storage, handed to the kernels as slices.

use crate::rule::{At, Rule};
use crate::state::{Buffers, Slot, State};
use crate::{Error, Group, Parameter, Result};
use backends::bridge::with_floats;
use backends::kernels::fused_step::{self, GradTransform, fused_step};
use backends::{Floats, Real, Store};
use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor};
use rayon::prelude::*;
use std::cell::Cell;

/// Updates every parameter that has a gradient, all of them in parallel and large ones in parts. `lr` is the rate of a group
/// that does not change it.
pub(crate) fn step<R: Rule>(
    parameters: &[Parameter],
    slots: &mut [Slot],
    grads: &[Option<Tensor>],
    (rule, lr): (&R, f64),
    groups: &[Group],
    transform: &GradTransform,
) -> Result<()> {
    let work = parameters.par_iter().zip(slots).zip(grads).enumerate();
    work.try_for_each(|(index, ((parameter, slot), grad))| {
        let Some(grad) = grad else { return Ok(()) };
        let group = groups[slot.group];
        let at = At {
            lr: lr * group.lr_scale,
            weight_decay: group.weight_decay.unwrap_or(rule.weight_decay()),
            step: slot.step + 1,
        };
        let mut outcome = Ok(());
        let apply = |storage: &mut CpuStorage, layout: &Layout| {
            outcome = with_floats("step", [grad], |[grad]| {
                update(parameter, storage, layout, (index, &mut *slot), grad, rule, &at, transform)
            })
            .map_err(Error::from)
            .flatten();
            Ok(())
        };
        parameter.var.inplace_op1(&InPlace(Cell::new(Some(apply))))?;
        outcome?;
        slot.step = at.step;
        Ok(())
    })
}

#[expect(clippy::too_many_arguments, reason = "the one place where storage, state and settings meet")]
fn update<R: Rule>(
    parameter: &Parameter,
    storage: &mut CpuStorage,
    layout: &Layout,
    (index, slot): (usize, &mut Slot),
    grad: Floats<'_>,
    rule: &R,
    at: &At,
    transform: &GradTransform,
) -> Result<()> {
    let changed = |problem| Error::BadParameter { name: parameter.name.clone(), problem };
    let (start, end) = layout.contiguous_offsets().ok_or_else(|| changed("it is not contiguous"))?;
    match (&mut slot.state, storage) {
        (State::F16(b), CpuStorage::F16(w)) => run(&mut w[start..end], b, index, grad, rule, at, transform),
        (State::Bf16(b), CpuStorage::BF16(w)) => run(&mut w[start..end], b, index, grad, rule, at, transform),
        (State::F32(b), CpuStorage::F32(w)) => run(&mut w[start..end], b, index, grad, rule, at, transform),
        (State::F64(b), CpuStorage::F64(w)) => run(&mut w[start..end], b, index, grad, rule, at, transform),
        _ => Err(changed("its dtype is no longer the one that the optimizer was made with")),
    }
}

fn run<T, A, R>(
    weights: &mut [T],
    buffers: &mut Buffers<T, A>,
    index: usize,
    grad: Floats<'_>,
    rule: &R,
    at: &At,
    transform: &GradTransform,
) -> Result<()>
where
    T: Store<A>,
    A: Real + Store<A>,
    R: Rule,
{
    let [first, second] = &mut buffers.moments;
    let write_back = buffers.extra.as_kernel(index, at.step);
    let buffers = fused_step::Parameter { weights, write_back, grad, first, second };
    Ok(fused_step(buffers, &rule.kernel::<A>(at), transform)?)
}

/// A closure as one of candle's in-place ops, which is how a crate other than candle may write to a variable.
struct InPlace<F>(Cell<Option<F>>);

impl<F: FnOnce(&mut CpuStorage, &Layout) -> candle_core::Result<()>> InplaceOp1 for InPlace<F> {
    fn name(&self) -> &'static str {
        "optimizer step"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        self.0.take().map_or(Ok(()), |apply| apply(storage, layout))
    }
}
