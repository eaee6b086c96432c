//! An optimizer's state as named tensors, which safetensors can hold.
//!
//! `<parameter>.step` (i64), `<parameter>.<moment>` under PyTorch's names, `<parameter>.master` or
//! `<parameter>.compensation`, and `applied_steps` (i64). Settings are not saved: they are the code's. What may differ
//! between a saved state and the optimizer that loads it is in `load`.

mod load;

pub(crate) use load::load;

use crate::rule::Rule;
use crate::state::{Buffers, Extra, State};
use crate::{Fused, Parameter, Result};
use candle_core::{Device, Tensor, WithDType};
use std::collections::HashMap;

const APPLIED_STEPS: &str = "applied_steps";
const MASTER: &str = "master";
const COMPENSATION: &str = "compensation";

/// Where the part of a parameter is kept that its dtype cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Nowhere,
    Master,
    Compensation,
}

/// A parameter's state as it was loaded: on the CPU, in the dtypes and the shape that the optimizer wants.
pub(crate) struct Loaded {
    pub(crate) moments: Vec<Tensor>,
    pub(crate) kept: Option<Tensor>,
}

pub(crate) fn save<R: Rule>(optimizer: &Fused<R>) -> Result<HashMap<String, Tensor>> {
    let mut saved = HashMap::new();
    let (applied_steps, steps) = optimizer.wait_for_steps()?;
    saved.insert(APPLIED_STEPS.to_string(), counter(applied_steps)?);
    for ((Parameter { name, var }, slot), step) in
        optimizer.parameters.iter().zip(&optimizer.slots).zip(steps)
    {
        saved.insert(format!("{name}.step"), counter(step)?);
        let names = optimizer.rule.moment_names();
        let mut put = |what: &str, tensor: candle_core::Result<Tensor>| {
            saved.insert(format!("{name}.{what}"), tensor?);
            Ok(())
        };
        match &slot.state {
            State::F16(b) => save_buffers(b, names, var, &mut put)?,
            State::Bf16(b) => save_buffers(b, names, var, &mut put)?,
            State::F32(b) => save_buffers(b, names, var, &mut put)?,
            State::F64(b) => save_buffers(b, names, var, &mut put)?,
            #[cfg(feature = "cuda")]
            State::Cuda(b) => {
                for (what, tensor) in b.named(names) {
                    put(what, tensor.to_device(&Device::Cpu))?;
                }
            }
        }
    }
    Ok(saved)
}

fn counter(value: u64) -> Result<Tensor> {
    Ok(Tensor::new(value as i64, &Device::Cpu)?)
}

fn save_buffers<T: WithDType, A: WithDType>(
    buffers: &Buffers<T, A>,
    names: &[&str],
    var: &Tensor,
    put: &mut impl FnMut(&str, candle_core::Result<Tensor>) -> Result<()>,
) -> Result<()> {
    for (name, moment) in names.iter().zip(&buffers.moments) {
        put(name, Tensor::from_slice(moment, var.shape(), &Device::Cpu))?;
    }
    match &buffers.extra {
        Extra::Nothing | Extra::Seed(_) => Ok(()),
        Extra::Master(master) => put(MASTER, Tensor::from_slice(master, var.shape(), &Device::Cpu)),
        Extra::Kahan(rest) => put(COMPENSATION, Tensor::from_slice(rest, var.shape(), &Device::Cpu)),
    }
}
