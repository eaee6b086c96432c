//! An optimizer's state as named tensors, which safetensors can hold.
//!
//! `<parameter>.step` (i64), `<parameter>.<moment>` under PyTorch's names, `<parameter>.master` or
//! `<parameter>.compensation`, and `applied_steps` (i64). Settings are not saved: they are the code's. What may differ
//! between a saved state and the optimizer that loads it is in `load`.

mod load;

pub(crate) use load::load;

use crate::rule::Rule;
use crate::state::own;
use crate::{Fused, Result};
use backends::kernels::step::WriteBack;
use candle_core::{Device, Tensor};
use std::collections::HashMap;

const APPLIED_STEPS: &str = "applied_steps";
const MASTER: &str = "master";
const COMPENSATION: &str = "compensation";

/// Copies on the CPU. Waits for a device.
pub(crate) fn save<R: Rule>(optimizer: &Fused<R>) -> Result<HashMap<String, Tensor>> {
    let (applied_steps, steps) = optimizer.stepper.wait_for_steps()?;
    let mut saved = HashMap::from([(APPLIED_STEPS.to_string(), counter(applied_steps)?)]);
    for ((parameter, slot), step) in optimizer.parameters.iter().zip(&optimizer.slots).zip(steps) {
        let key = |what: &str| format!("{}.{what}", parameter.name);
        saved.insert(key("step"), counter(step)?);
        let kept = match &slot.state.write_back {
            WriteBack::Nearest | WriteBack::Stochastic { .. } => None,
            WriteBack::Master(master) => Some((&MASTER, master)),
            WriteBack::Kahan(lost) => Some((&COMPENSATION, lost)),
        };
        let moments = optimizer.rule.moment_names().iter().zip(&slot.state.moments);
        for (what, tensor) in moments.chain(kept) {
            saved.insert(key(what), own(tensor, &Device::Cpu)?);
        }
    }
    Ok(saved)
}

fn counter(value: u64) -> Result<Tensor> {
    Ok(Tensor::new(value as i64, &Device::Cpu)?)
}
