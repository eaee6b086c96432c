//! Going on from a state: what is taken as it is, what is converted, and what is told of that.

use std::collections::HashMap;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use grad_scaler::{LoadReport, Strictness};

use super::{Member, Run};
use crate::{Error, Notice, Result, TrainingState};

impl Run<'_> {
    /// Takes a state's optimizers, loss scale, place and accumulated batches. Its parameters were given to the model already.
    pub(super) fn resume(&mut self, state: &TrainingState) -> Result<()> {
        let mut differences = Vec::new();
        if state.precision != self.progress.precision {
            let (from, to) = (state.precision, self.progress.precision);
            differences.push(format!("the state of {from} goes on at {to}"));
        }
        let is_alike = state.precision == self.progress.precision && self.is_stored_as(state);
        if state.precision == self.progress.precision && !is_alike {
            let stored = self.trainer.param_dtype().as_str();
            differences.push(format!("the state's parameters are of another dtype, and go on in {stored}"));
        }
        if state.seed != self.progress.seed {
            let (from, to) = (state.seed, self.progress.seed);
            differences.push(format!("the state's seed is {from}, and goes on as {to}"));
        }
        self.optimizers(state, &mut differences)?;
        self.scale(state, &mut differences)?;
        (self.progress.position, self.progress.batches) = (state.position, state.batches);
        if is_alike {
            self.accumulated(state)?;
        } else if state.accumulated.batches > 0 {
            let batches = state.accumulated.batches;
            differences.push(format!("{batches} batches of a step that was not complete are left out"));
        }
        if !differences.is_empty() {
            self.notices.push(Notice::Resumed { differences });
        }
        Ok(())
    }

    /// Whether parameters have the dtypes that they have in the state.
    fn is_stored_as(&self, state: &TrainingState) -> bool {
        let dtype = |name| state.parameters.get(name).map(Tensor::dtype);
        self.progress.parameters.iter().all(|(name, var)| dtype(name) == Some(var.dtype()))
    }

    fn optimizers(&mut self, state: &TrainingState, differences: &mut Vec<String>) -> Result<()> {
        let names = |names: &mut dyn Iterator<Item = &String>| names.cloned().collect::<Vec<_>>().join(", ");
        let optimizers = &mut self.progress.update.optimizers;
        let fits = optimizers.len() == state.optimizers.len()
            && optimizers.iter().all(|stepping| state.optimizers.contains_key(&stepping.name));
        if !fits {
            let (saved, own) = (
                names(&mut state.optimizers.keys()),
                names(&mut optimizers.iter().map(|stepping| &stepping.name)),
            );
            return Err(Error::StateMismatch {
                what: format!("the optimizers {saved} (the module has {own})"),
            });
        }
        for stepping in optimizers {
            let (saved, made) = state.optimizer_for(&stepping.name, stepping.optimizer.parameters());
            let report = stepping.optimizer.load_state_dict_with(&saved, Strictness::Strict)?;
            let LoadReport { converted, mut missing, unused, .. } = report;
            missing.extend(made);
            for (what, entries) in [("converted", converted), ("made", missing), ("left out", unused)] {
                if !entries.is_empty() {
                    differences.push(format!("{what} {}", entries.join(", ")));
                }
            }
        }
        Ok(())
    }

    fn scale(&mut self, state: &TrainingState, differences: &mut Vec<String>) -> Result<()> {
        let plugin = &mut self.progress.update.plugin;
        match (plugin.scales, state.scaler.is_empty()) {
            (true, false) => plugin.load_state_dict(&state.scaler)?,
            (false, true) => {}
            (true, true) => differences.push("the state has no loss scale: it begins anew".to_string()),
            (false, false) => {
                differences.push("this precision has no use for the state's loss scale".to_string());
            }
        }
        Ok(())
    }

    fn accumulated(&mut self, state: &TrainingState) -> Result<()> {
        let device = &self.trainer.device;
        let accumulated = &state.accumulated;
        let group = &mut self.progress.group;
        group.batches = accumulated.batches;
        for &(loss, samples) in &accumulated.losses {
            let loss = Tensor::new(loss, device)?;
            self.losses.push(&loss)?;
            group.losses.push(Member { loss, metrics: Vec::new(), samples });
        }
        for (name, value) in &accumulated.buffers {
            let unknown = || Error::StateMismatch { what: format!("a write to the buffer '{name}'") };
            let buffer = self.progress.parameters.get(name).ok_or_else(unknown)?;
            group.buffers.push((buffer.clone(), fitting(value, buffer, device).ok_or_else(unknown)??));
        }
        for stepping in &mut self.progress.update.optimizers {
            if let Some(saved) = accumulated.gradients.get(&stepping.name) {
                stepping.grads = Some(self.progress.parameters.grads(saved, device)?);
            }
        }
        Ok(())
    }
}

/// A copy on the device, if it is of the variable's shape.
fn fitting(value: &Tensor, var: &Tensor, device: &Device) -> Option<Result<Tensor>> {
    let fits = value.shape() == var.shape() && value.dtype() == var.dtype();
    fits.then(|| Ok(value.to_device(device)?.copy()?))
}

impl crate::Parameters {
    /// Gradients by name, for the variables of these names.
    fn grads(&self, saved: &HashMap<String, Tensor>, device: &Device) -> Result<GradStore> {
        let mut grads = GradStore::default();
        for (name, grad) in saved {
            let unknown = || Error::StateMismatch { what: format!("a gradient of '{name}'") };
            let var = self.get(name).filter(|var| var.shape() == grad.shape()).ok_or_else(unknown)?;
            grads.insert(var, grad.to_device(device)?);
        }
        Ok(grads)
    }
}
