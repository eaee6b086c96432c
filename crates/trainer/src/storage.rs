//! What the model stores its parameters in, and how the state of one storage becomes that of another.

use std::collections::HashMap;

use candle_core::{DType, Tensor};

use crate::{Result, Trainer, TrainingState};

/// The dtype of a model's parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Storage {
    /// The precision's.
    #[default]
    AsItSays,
    /// The one that the precision multiplies in.
    InComputeDtype,
}

/// What an optimizer calls the f32 master of a parameter, behind its name.
const MASTER: &str = "master";
const COMPENSATION: &str = "compensation";

impl Trainer {
    /// The dtype of the model's parameters.
    pub(crate) fn param_dtype(&self) -> DType {
        match self.settings.storage {
            Storage::AsItSays => self.precision.param_dtype().into(),
            Storage::InComputeDtype => self.precision.compute_dtype().into(),
        }
    }
}

impl TrainingState {
    /// The parameters for a model that stores them in `dtype`: where that is wide and the state's are narrow, their masters.
    pub(crate) fn values_in(&self, dtype: DType) -> Result<HashMap<String, Tensor>> {
        let mut values = self.parameters.clone();
        if is_narrow(dtype) {
            return Ok(values);
        }
        for (name, value) in values.iter_mut().filter(|(_, value)| is_narrow(value.dtype())) {
            let master = self.optimizers.values().find_map(|state| state.get(&format!("{name}.{MASTER}")));
            if let Some(master) = master.filter(|master| master.shape() == value.shape())
                && rounds_to(master, value)?
            {
                *value = master.clone();
            }
        }
        Ok(values)
    }

    /// An optimizer's state for `parameters`: where these are narrow and the state's are wide, the latter are the masters. Beside
    /// it the names of those.
    pub(crate) fn optimizer_for(
        &self,
        optimizer: &str,
        parameters: &[optim::Parameter],
    ) -> (HashMap<String, Tensor>, Vec<String>) {
        let mut state = self.optimizers.get(optimizer).cloned().unwrap_or_default();
        let mut made = Vec::new();
        let wide = |name: &String| self.parameters.get(name).filter(|value| !is_narrow(value.dtype()));
        for optim::Parameter { name, .. } in parameters.iter().filter(|p| is_narrow(p.var.dtype())) {
            let [master, compensation] = [MASTER, COMPENSATION].map(|what| format!("{name}.{what}"));
            if let Some(value) = wide(name)
                && !state.contains_key(&master)
                && !state.contains_key(&compensation)
            {
                state.insert(master.clone(), value.clone());
                made.push(master);
            }
        }
        (state, made)
    }
}

fn is_narrow(dtype: DType) -> bool {
    dtype.size_in_bytes() == 2
}

/// Whether a parameter is what its master rounds to, and was not set to something else since.
fn rounds_to(master: &Tensor, value: &Tensor) -> Result<bool> {
    let same = autocast::cast_to(master, value.dtype())?.eq(value)?;
    Ok(!same.flatten_all()?.to_vec1::<u8>()?.contains(&0))
}
