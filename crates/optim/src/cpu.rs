//! The step on the CPU: candle's storage, handed to the kernels as slices.

use crate::rule::{At, Rule};
use crate::state::{Buffers, Slot, State};
use crate::{Error, Group, Parameter, Result};
use backends::kernels::fused_step::{self, GradTransform, fused_step};
use backends::kernels::grad_stats::{GradStats, grad_stats};
use backends::{Floats, Real, Store};
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Storage, Tensor};
use rayon::prelude::*;
use std::cell::Cell;
use std::collections::HashSet;

/// The gradient of each parameter, as the kernels take it: contiguous, of the parameter's shape, and in memory that is
/// not a parameter's, which would be locked for writing while it is read.
pub(crate) fn gradients(parameters: &[Parameter], grads: &GradStore) -> Result<Vec<Option<Tensor>>> {
    let taken: HashSet<usize> = parameters.iter().map(|p| address(&p.var)).collect();
    let prepare = |parameter: &Parameter| {
        let Some(grad) = grads.get(&parameter.var) else { return Ok(None) };
        check_gradient(parameter, grad)?;
        let own = if taken.contains(&address(grad)) { grad.copy()? } else { grad.contiguous()? };
        Ok(Some(own))
    };
    parameters.iter().map(prepare).collect()
}

/// Where a tensor's storage lives: equal for two tensors that share it.
pub(crate) fn address(tensor: &Tensor) -> usize {
    let (storage, _) = tensor.storage_and_layout();
    std::ptr::from_ref::<Storage>(&storage).addr()
}

fn check_gradient(parameter: &Parameter, grad: &Tensor) -> Result<()> {
    let Parameter { name, var } = parameter;
    let float = matches!(grad.dtype(), DType::F16 | DType::BF16 | DType::F32 | DType::F64);
    let (expected, got) = if grad.shape() != var.shape() {
        (format!("the shape {:?}", var.dims()), format!("{:?}", grad.dims()))
    } else if !float {
        ("f16, bf16, f32 or f64".into(), grad.dtype().as_str().into())
    } else if !grad.device().is_cpu() {
        ("a tensor on the CPU, as the parameter is".into(), format!("{:?}", grad.device().location()))
    } else {
        return Ok(());
    };
    Err(Error::BadGradient { name: name.clone(), expected, got })
}

/// The sum of squares of all gradients, each multiplied by `inv_scale` first.
pub(crate) fn sum_squares(grads: &[Option<Tensor>], inv_scale: f32) -> f64 {
    let guards: Vec<_> = grads.iter().flatten().map(|grad| grad.storage_and_layout()).collect();
    let slices: Vec<_> = guards.iter().filter_map(|(storage, layout)| floats(storage, layout)).collect();
    let all = grad_stats(&slices, inv_scale).into_iter().fold(GradStats::default(), GradStats::merge);
    all.sum_squares
}

fn floats<'a>(storage: &'a Storage, layout: &Layout) -> Option<Floats<'a>> {
    let (start, end) = layout.contiguous_offsets()?;
    let Storage::Cpu(storage) = storage else { return None };
    let all = match storage {
        CpuStorage::F16(x) => Floats::F16(x),
        CpuStorage::BF16(x) => Floats::Bf16(x),
        CpuStorage::F32(x) => Floats::F32(x),
        CpuStorage::F64(x) => Floats::F64(x),
        _ => return None,
    };
    all.get(start..end)
}

/// Updates every parameter that has a gradient, all of them in parallel and large ones in parts.
pub(crate) fn step<R: Rule>(
    parameters: &[Parameter],
    slots: &mut [Slot],
    grads: &[Option<Tensor>],
    rule: &R,
    groups: &[Group],
    transform: &GradTransform,
) -> Result<()> {
    let work = parameters.par_iter().zip(slots).zip(grads).enumerate();
    work.try_for_each(|(index, ((parameter, slot), grad))| {
        let Some(grad) = grad else { return Ok(()) };
        let (storage, layout) = grad.storage_and_layout();
        let Some(grad) = floats(&storage, layout) else { return Ok(()) };
        let group = groups[slot.group];
        let at = At {
            lr: rule.lr() * group.lr_scale,
            weight_decay: group.weight_decay.unwrap_or(rule.weight_decay()),
            step: slot.step + 1,
        };
        let mut outcome = Ok(());
        let apply = |storage: &mut CpuStorage, layout: &Layout| {
            outcome = update(parameter, storage, layout, (index, &mut *slot), grad, rule, &at, transform);
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
