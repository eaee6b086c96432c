//! Loading a state, be it another optimizer's of the same parameters: one saved at another precision or write-back, on
//! another device, or by PyTorch.

use super::{APPLIED_STEPS, COMPENSATION, MASTER};
use crate::rule::Rule;
use crate::state::{Slot, fresh, own};
use crate::{Error, Fused, LoadReport, Parameter, Result, Strictness};
use backends::bridge::cast;
use backends::kernels::step::{State, WriteBack, arithmetic, is_float};
use candle_core::{DType, Device, Tensor};
use std::collections::{HashMap, HashSet};

pub(crate) fn load<R: Rule>(
    optimizer: &mut Fused<R>,
    state: &HashMap<String, Tensor>,
    strictness: Strictness,
) -> Result<LoadReport> {
    let is_kept = |parameter: &Parameter| {
        [MASTER, COMPENSATION].iter().any(|what| state.contains_key(&format!("{}.{what}", parameter.name)))
    };
    let mut reader = Reader {
        state,
        strictness,
        keeps_something: optimizer.parameters.iter().any(is_kept),
        read: HashSet::new(),
        report: LoadReport::default(),
    };
    let applied_steps = reader.counter_or_missing(APPLIED_STEPS)?;
    // Built aside, so that an error half-way leaves the optimizer as it was.
    let names = optimizer.rule.moment_names();
    let (mut slots, mut steps) = (Vec::new(), Vec::new());
    for (parameter, &Slot { group, state: ref now }) in optimizer.parameters.iter().zip(&optimizer.slots) {
        let (step, state) = match reader.parameter(parameter, now, names)? {
            Some(loaded) => loaded,
            None => (0, fresh(parameter, names.len(), optimizer.write_back.under(optimizer.seed))?),
        };
        slots.push(Slot { group, state });
        steps.push(step);
    }
    let report = reader.finish()?;
    let most = steps.iter().copied().max();
    optimizer.restore(slots, &steps, applied_steps.or(most).unwrap_or(0))?;
    Ok(report)
}

struct Reader<'a> {
    state: &'a HashMap<String, Tensor>,
    strictness: Strictness,
    /// Whether the state was saved with masters or compensations. A state that has them for some parameters has a hole
    /// where it lacks one; a state that has none was saved at another precision.
    keeps_something: bool,
    read: HashSet<String>,
    report: LoadReport,
}

impl Reader<'_> {
    /// The step count and state of a parameter, or `None` for one that starts anew.
    fn parameter(
        &mut self,
        parameter: &Parameter,
        now: &State,
        names: &[&str],
    ) -> Result<Option<(u64, State)>> {
        let key = |what: &str| format!("{}.{what}", parameter.name);
        let needed = std::iter::once("step").chain(names.iter().copied()).map(key);
        let missing: Vec<String> = needed.filter(|key| !self.state.contains_key(key)).collect();
        if let Some(key) = missing.first() {
            self.missing(key)?;
            self.report.missing.extend(missing);
            return Ok(None);
        }
        let step = self.counter(&key("step"))?;
        let (device, arithmetic) = (parameter.var.device(), arithmetic(parameter.var.dtype()));
        let mut moments = Vec::with_capacity(names.len());
        for name in names {
            let saved = self.checked(parameter, name)?;
            if saved.dtype() != arithmetic {
                self.report.converted.push(key(name));
            }
            moments.push(own(&cast(&saved, arithmetic)?, device)?);
        }
        let write_back = match &now.write_back {
            WriteBack::Master(_) => WriteBack::Master(own(&self.master(parameter)?, device)?),
            WriteBack::Kahan(_) => WriteBack::Kahan(own(&self.compensation(parameter)?, device)?),
            nothing_kept => {
                self.leave_out(&key(MASTER));
                self.leave_out(&key(COMPENSATION));
                nothing_kept.clone()
            }
        };
        Ok(Some((step, State { moments, write_back })))
    }

    /// The saved master, else what parameter and compensation hold together, else what the parameter holds.
    fn master(&mut self, parameter: &Parameter) -> Result<Tensor> {
        let wide = wide(parameter)?;
        let key = format!("{}.{MASTER}", parameter.name);
        let compensation = format!("{}.{COMPENSATION}", parameter.name);
        if self.state.contains_key(&key) {
            let saved = self.checked(parameter, MASTER)?;
            if saved.dtype() != DType::F32 {
                self.report.converted.push(key);
            }
            return Ok(cast(&saved, DType::F32)?);
        }
        if self.state.contains_key(&compensation) {
            let lost = cast(&self.checked(parameter, COMPENSATION)?, DType::F32)?;
            self.report.converted.push(compensation);
            return Ok((wide + lost)?);
        }
        self.never_kept(key)?;
        Ok(wide)
    }

    /// The saved compensation, else what the saved master has and the parameter has not, else nothing.
    fn compensation(&mut self, parameter: &Parameter) -> Result<Tensor> {
        let dtype = parameter.var.dtype();
        let wide = wide(parameter)?;
        let key = format!("{}.{COMPENSATION}", parameter.name);
        let master = format!("{}.{MASTER}", parameter.name);
        if self.state.contains_key(&key) {
            let saved = self.checked(parameter, COMPENSATION)?;
            if saved.dtype() != dtype {
                self.report.converted.push(key);
            }
            return Ok(cast(&saved, dtype)?);
        }
        if self.state.contains_key(&master) {
            let full = cast(&self.checked(parameter, MASTER)?, DType::F32)?;
            self.report.converted.push(master);
            // A parameter that is not what its master rounds to was set since: nothing of it was lost.
            let same = full.to_dtype(dtype)?.to_dtype(DType::F32)?.eq(&wide)?;
            let lost =
                same.where_cond(&(full - wide)?, &Tensor::zeros(same.shape(), DType::F32, &Device::Cpu)?)?;
            return Ok(lost.to_dtype(dtype)?);
        }
        self.never_kept(key)?;
        Ok(Tensor::zeros(parameter.var.shape(), dtype, &Device::Cpu)?)
    }

    /// An entry that a state of another precision has no reason to have.
    fn never_kept(&mut self, key: String) -> Result<()> {
        if self.keeps_something {
            self.missing(&key)?;
        }
        self.report.missing.push(key);
        Ok(())
    }

    /// An error where strict.
    fn missing(&self, key: &str) -> Result<()> {
        match self.strictness {
            Strictness::Strict => Err(Error::MissingState { key: key.to_string() }),
            Strictness::Lenient => Ok(()),
        }
    }

    /// An entry that has no place here, as happens between precisions.
    fn leave_out(&mut self, key: &str) {
        if self.state.contains_key(key) {
            self.read.insert(key.to_string());
            self.report.unused.push(key.to_string());
        }
    }

    /// A float tensor of the parameter's shape, on the CPU.
    fn checked(&mut self, parameter: &Parameter, what: &str) -> Result<Tensor> {
        let key = format!("{}.{what}", parameter.name);
        let tensor = self.get(&key)?;
        if !is_float(tensor.dtype()) || tensor.shape() != parameter.var.shape() {
            let expected = format!("f16, bf16, f32 or f64 {:?}", parameter.var.dims());
            return Err(Error::StateMismatch { key, expected, got: described(&tensor) });
        }
        Ok(tensor.detach().to_device(&Device::Cpu)?)
    }

    fn counter_or_missing(&mut self, key: &str) -> Result<Option<u64>> {
        if self.state.contains_key(key) {
            return self.counter(key).map(Some);
        }
        self.missing(key)?;
        self.report.missing.push(key.to_string());
        Ok(None)
    }

    fn counter(&mut self, key: &str) -> Result<u64> {
        let tensor = self.get(key)?;
        let mismatch = |got: String| Error::StateMismatch {
            key: key.to_string(),
            expected: "a whole number, 0 or above, in a tensor of one element".into(),
            got,
        };
        let float = tensor.dtype().is_float();
        let wide = if float { DType::F64 } else { DType::I64 };
        if tensor.elem_count() != 1 {
            return Err(mismatch(described(&tensor)));
        }
        if tensor.dtype() != DType::I64 || tensor.rank() != 0 {
            self.report.converted.push(key.to_string());
        }
        let tensor = tensor.to_device(&Device::Cpu)?.reshape(())?.to_dtype(wide)?;
        if !float {
            let count = tensor.to_scalar::<i64>()?;
            return u64::try_from(count).map_err(|_| mismatch(count.to_string()));
        }
        let count = tensor.to_scalar::<f64>()?;
        let whole = count >= 0.0 && count < 2f64.powi(63) && count.fract() == 0.0;
        if whole { Ok(count as u64) } else { Err(mismatch(count.to_string())) }
    }

    fn get(&mut self, key: &str) -> Result<Tensor> {
        let tensor = self.state.get(key).ok_or_else(|| Error::MissingState { key: key.to_string() })?;
        self.read.insert(key.to_string());
        Ok(tensor.clone())
    }

    /// What was not read has no place here.
    fn finish(mut self) -> Result<LoadReport> {
        let mut unread = self.state.keys().filter(|key| !self.read.contains(*key));
        match self.strictness {
            Strictness::Strict => {
                if let Some(key) = unread.min() {
                    return Err(Error::UnexpectedState { key: key.clone() });
                }
            }
            Strictness::Lenient => self.report.unused.extend(unread.by_ref().cloned()),
        }
        Ok(self.report.sorted())
    }
}

/// A 16-bit parameter in f32, on the CPU.
fn wide(parameter: &Parameter) -> Result<Tensor> {
    Ok(parameter.var.as_detached_tensor().to_device(&Device::Cpu)?.to_dtype(DType::F32)?)
}

fn described(tensor: &Tensor) -> String {
    format!("{} {:?}", tensor.dtype().as_str(), tensor.dims())
}
