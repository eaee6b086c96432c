//! The trait that every optimizer here implements.

use crate::Result;
use candle_core::Tensor;
use candle_core::backprop::GradStore;
use candle_nn::VarMap;
use grad_scaler::{Parameter, ScaledOptimizer, StepOutcome};
use std::collections::HashMap;

/// An optimizer over named parameters. Object-safe, so that a training loop can hold a `Box<dyn Optimizer>`.
///
/// To step under a loss scale, give the optimizer to [`GradScaler::step`](grad_scaler::GradScaler::step), which may skip.
pub trait Optimizer: ScaledOptimizer {
    /// Takes a step.
    ///
    /// A parameter that has no gradient in the store stays as it is, and so do its moments.
    ///
    /// # Units
    ///
    /// The gradients are those of the loss: no scale.
    ///
    /// # Errors
    ///
    /// When a gradient is not of its parameter's shape, or not a float.
    fn step(&mut self, grads: &GradStore) -> Result<StepOutcome>;

    /// The learning rate of the parameters whose group does not change it.
    fn learning_rate(&self) -> f64;

    /// Sets the learning rate; groups keep their multiples of it.
    ///
    /// # Errors
    ///
    /// When it is negative, infinite or NaN.
    fn set_learning_rate(&mut self, lr: f64) -> Result<()>;

    /// How many steps changed the parameters.
    ///
    /// On a CUDA device, under a scaler, a step counts until the device is known to have skipped it, so that a schedule
    /// neither waits nor lags: after a skip it is ahead by one until the host hears of it.
    fn applied_steps(&self) -> u64;

    /// The global norm of the unscaled gradients at the last step, before clipping, where it was taken: when the
    /// optimizer clips by norm, or a scaler looked at the gradients. On a CUDA device, the last step that the host has
    /// heard of.
    fn grad_norm(&self) -> Option<f64>;

    /// The optimizer's state: `<parameter>.<what>` for each, and `applied_steps`. Copies on the CPU, which later steps
    /// leave alone, and which an optimizer on any device can load. Waits for a CUDA device.
    ///
    /// # Errors
    ///
    /// When candle fails.
    fn state_dict(&self) -> Result<HashMap<String, Tensor>>;

    /// Restores a state. Nothing changes where it returns an error.
    ///
    /// # Errors
    ///
    /// When an entry is missing, has no place here, or is of another dtype or shape.
    fn load_state_dict(&mut self, state: &HashMap<String, Tensor>) -> Result<()>;

    /// The names of the parameters that have no gradient in the store: they are not part of the loss, or an op dropped
    /// their gradient.
    fn without_gradient(&self, grads: &GradStore) -> Vec<&str> {
        let parameters = self.parameters().iter();
        parameters.filter(|p| grads.get(&p.var).is_none()).map(|p| p.name.as_str()).collect()
    }
}

/// Every variable of a `VarMap` with its name, in the order of the names, so that a run can be repeated.
pub fn named_parameters(vars: &VarMap) -> Vec<Parameter> {
    // A poisoned lock still guards a whole map: insertions are atomic.
    let data = vars.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut parameters: Vec<Parameter> =
        data.iter().map(|(name, var)| Parameter { name: name.clone(), var: var.clone() }).collect();
    parameters.sort_by(|a, b| a.name.cmp(&b.name));
    parameters
}
