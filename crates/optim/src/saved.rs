//! An optimizer's state as named tensors, which safetensors can hold.
//!
//! `<parameter>.step` (i64), `<parameter>.<moment>` under PyTorch's names, `<parameter>.master` or
//! `<parameter>.compensation`, and `applied_steps` (i64). Settings are not saved: they are the code's.

use crate::rule::Rule;
use crate::state::{Buffers, Extra, Slot, State};
use crate::{Error, Fused, Parameter, Result};
use backends::{Real, Store};
use candle_core::{DType, Device, Tensor, WithDType};
use std::collections::{HashMap, HashSet};

const APPLIED_STEPS: &str = "applied_steps";

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
        Extra::Master(master) => put("master", Tensor::from_slice(master, var.shape(), &Device::Cpu)),
        Extra::Kahan(rest) => put("compensation", Tensor::from_slice(rest, var.shape(), &Device::Cpu)),
    }
}

pub(crate) fn load<R: Rule>(optimizer: &mut Fused<R>, state: &HashMap<String, Tensor>) -> Result<()> {
    let mut reader = Reader { state, read: HashSet::new() };
    let applied_steps = reader.counter(APPLIED_STEPS.to_string())?;
    // Built aside, so that an error half-way leaves the optimizer as it was.
    let mut slots = Vec::with_capacity(optimizer.slots.len());
    for (parameter, slot) in optimizer.parameters.iter().zip(&optimizer.slots) {
        slots.push(reader.slot(parameter, slot, optimizer.rule.moment_names())?);
    }
    if let Some(key) = state.keys().filter(|key| !reader.read.contains(*key)).min() {
        return Err(Error::UnexpectedState { key: key.clone() });
    }
    optimizer.restore(slots, applied_steps)
}

struct Reader<'a> {
    state: &'a HashMap<String, Tensor>,
    read: HashSet<String>,
}

impl Reader<'_> {
    fn slot(&mut self, parameter: &Parameter, now: &Slot, names: &[&str]) -> Result<Slot> {
        let step = self.counter(format!("{}.step", parameter.name))?;
        let state = match &now.state {
            State::F16(b) => State::F16(self.buffers(parameter, b, names)?),
            State::Bf16(b) => State::Bf16(self.buffers(parameter, b, names)?),
            State::F32(b) => State::F32(self.buffers(parameter, b, names)?),
            State::F64(b) => State::F64(self.buffers(parameter, b, names)?),
            #[cfg(feature = "cuda")]
            State::Cuda(b) => State::Cuda(b.map(names, |what, now| {
                let tensor = self.checked(parameter, what, now.dtype())?;
                // A copy, which the next step may write to.
                Ok(tensor.to_device(now.device())?.copy()?)
            })?),
        };
        Ok(Slot { step, group: now.group, state })
    }

    fn buffers<T, A>(
        &mut self,
        parameter: &Parameter,
        now: &Buffers<T, A>,
        names: &[&str],
    ) -> Result<Buffers<T, A>>
    where
        T: WithDType + Store<A>,
        A: WithDType + Real,
    {
        let mut moments = [Vec::new(), Vec::new()];
        for (moment, name) in moments.iter_mut().zip(names) {
            *moment = self.tensor(parameter, name)?;
        }
        let extra = match &now.extra {
            Extra::Nothing => Extra::Nothing,
            Extra::Seed(seed) => Extra::Seed(*seed),
            Extra::Master(_) => Extra::Master(self.tensor(parameter, "master")?),
            Extra::Kahan(_) => Extra::Kahan(self.tensor(parameter, "compensation")?),
        };
        Ok(Buffers { moments, extra })
    }

    fn tensor<T: WithDType>(&mut self, parameter: &Parameter, what: &str) -> Result<Vec<T>> {
        Ok(self.checked(parameter, what, T::DTYPE)?.flatten_all()?.to_vec1()?)
    }

    fn checked(&mut self, parameter: &Parameter, what: &str, dtype: DType) -> Result<Tensor> {
        let key = format!("{}.{what}", parameter.name);
        let tensor = self.get(&key)?;
        if tensor.dtype() != dtype || tensor.shape() != parameter.var.shape() {
            let expected = format!("{} {:?}", dtype.as_str(), parameter.var.dims());
            let got = format!("{} {:?}", tensor.dtype().as_str(), tensor.dims());
            return Err(Error::StateMismatch { key, expected, got });
        }
        Ok(tensor)
    }

    fn counter(&mut self, key: String) -> Result<u64> {
        let tensor = self.get(&key)?;
        let mismatch = |got: String| Error::StateMismatch {
            key: key.clone(),
            expected: "an i64 scalar, 0 or above".into(),
            got,
        };
        let described = format!("{} {:?}", tensor.dtype().as_str(), tensor.dims());
        let value = tensor.to_scalar::<i64>().map_err(|_| mismatch(described))?;
        u64::try_from(value).map_err(|_| mismatch(value.to_string()))
    }

    fn get(&mut self, key: &str) -> Result<Tensor> {
        let tensor = self.state.get(key).ok_or_else(|| Error::MissingState { key: key.to_string() })?;
        self.read.insert(key.to_string());
        Ok(tensor.clone())
    }
}
