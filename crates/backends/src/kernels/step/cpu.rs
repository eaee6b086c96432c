//! The update on a CPU: candle's storage, handed to the kernel as slices, all parameters in parallel.

use super::operands::{OP, Parameter, operand};
use super::update::{Buffers, GradTransform, fused_step};
use super::{RuleSettings, WriteBack, key};
use crate::bridge::with_floats;
use crate::{Element, Error, Real, Result, Store};
use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;
use std::cell::Cell;

/// Updates every parameter, of which this is the step after those in `steps`, by its group's settings.
pub(crate) fn update<R: RuleSettings>(
    parameters: &[Parameter<'_>],
    groups: &[R],
    steps: &[u64],
    transform: &GradTransform,
) -> Result<()> {
    parameters.par_iter().try_for_each(|p| {
        let (rule, step) = (&groups[p.group], steps[p.slot] + 1);
        match p.weights.dtype() {
            DType::F16 => one::<f16, f32, R>(p, rule, step, transform),
            DType::BF16 => one::<bf16, f32, R>(p, rule, step, transform),
            DType::F64 => one::<f64, f64, R>(p, rule, step, transform),
            _ => one::<f32, f32, R>(p, rule, step, transform),
        }
    })
}

fn one<T, A, R>(p: &Parameter<'_>, rule: &R, step: u64, transform: &GradTransform) -> Result<()>
where
    T: Store<A> + Stored,
    A: Real + Store<A> + Stored,
    R: RuleSettings,
{
    let (first, second) = (p.state.moments.first(), p.state.moments.get(1));
    let run = |weights: &mut [T], write_back: WriteBack<&mut [A], &mut [T]>| {
        with_slice(first, |first| {
            with_slice(second, |second| {
                with_floats(OP, [p.grad], |[grad]| {
                    let buffers = Buffers { weights, write_back, grad, first, second };
                    fused_step(buffers, &rule.rule::<A>(step), transform)
                })?
            })
        })
    };
    with_slice(Some(p.weights), |weights| match &p.state.write_back {
        WriteBack::Nearest => run(weights, WriteBack::Nearest),
        WriteBack::Master(master) => with_slice(Some(master), |full| run(weights, WriteBack::Master(full))),
        WriteBack::Kahan(lost) => with_slice(Some(lost), |lost| run(weights, WriteBack::Kahan(lost))),
        WriteBack::Stochastic { key: seed } => {
            run(weights, WriteBack::Stochastic { key: key(*seed, p.slot, step) })
        }
    })
}

/// Runs `f` on the elements of a tensor, which it may write to; on none where there is no tensor.
fn with_slice<T: Stored>(tensor: Option<&Tensor>, f: impl FnOnce(&mut [T]) -> Result<()>) -> Result<()> {
    let Some(tensor) = tensor else { return f(&mut []) };
    let mut outcome = Ok(());
    let apply: Box<Apply<'_>> = Box::new(|storage, layout| {
        let range = layout.contiguous_offsets().map(|(start, end)| start..end);
        let slice = range.and_then(|range| T::slice(storage)?.get_mut(range));
        outcome = match slice {
            Some(slice) => f(slice),
            None => {
                Err(operand("a tensor", "contiguous".into(), format!("strided as {:?}", layout.stride())))
            }
        };
    });
    tensor
        .inplace_op1(&InPlace(Cell::new(Some(apply))))
        .map_err(|error| Error::Device { op: OP.into(), message: error.to_string() })?;
    outcome
}

type Apply<'a> = dyn FnOnce(&mut CpuStorage, &Layout) + 'a;

/// A closure as one of candle's in-place ops, which is how a crate other than candle may write to a tensor. Boxed, so that candle's part is
/// compiled once.
struct InPlace<'a>(Cell<Option<Box<Apply<'a>>>>);

impl InplaceOp1 for InPlace<'_> {
    fn name(&self) -> &'static str {
        "optimizer step"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        if let Some(apply) = self.0.take() {
            apply(storage, layout);
        }
        Ok(())
    }
}

/// A float type, and where candle keeps its elements.
trait Stored: Element {
    fn slice(storage: &mut CpuStorage) -> Option<&mut [Self]>;
}

macro_rules! stored {
    ($($type:ty => $variant:ident),*) => {$(
        impl Stored for $type {
            fn slice(storage: &mut CpuStorage) -> Option<&mut [Self]> {
                if let CpuStorage::$variant(x) = storage { Some(x) } else { None }
            }
        }
    )*};
}
stored!(f16 => F16, bf16 => BF16, f32 => F32, f64 => F64);
