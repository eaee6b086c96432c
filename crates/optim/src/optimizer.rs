//! The traits that every optimizer here implements.

use crate::{Clip, LoadReport, OptimizerId, Parameter, Result, Schedule, StepCounts, Strictness};
use backends::kernels::step::{Pending, Scaling};
use candle_core::Tensor;
use candle_core::backprop::GradStore;
use std::collections::HashMap;

/// An optimizer that can step under a loss scale: what `grad_scaler::GradScaler` asks of one.
pub trait ScaledOptimizer {
    /// Which optimizer this is: the same at every call.
    fn id(&self) -> OptimizerId;

    /// The parameters that it updates, whose gradients decide whether a step is taken.
    fn parameters(&self) -> &[Parameter];

    /// Takes a step, or skips it where `scaling` says so, on a CUDA device without waiting. A skipped step changes no
    /// parameter, no moment and no step count, to the bit.
    ///
    /// # Errors
    ///
    /// When a gradient does not fit its parameter, before anything is changed.
    fn scaled_step(&mut self, grads: &GradStore, scaling: Scaling<'_>) -> Result<Pending>;

    /// The names of the parameters that have no gradient in the store: they are not part of the loss, or an op dropped
    /// their gradient.
    fn without_gradient(&self, grads: &GradStore) -> Vec<&str> {
        let parameters = self.parameters().iter();
        parameters.filter(|p| grads.get(&p.var).is_none()).map(|p| p.name.as_str()).collect()
    }
}

/// An optimizer over named parameters. Object-safe, so that a training loop can hold a `Box<dyn Optimizer>`.
///
/// To step under a loss scale, give the optimizer to a `grad_scaler::GradScaler`, which may skip.
pub trait Optimizer: ScaledOptimizer {
    /// Takes a step.
    ///
    /// A parameter that has no gradient in the store stays as it is, and so do its moments. Gradients that are not finite are
    /// used as they are: to skip or refuse such a step, there are `grad_scaler::GradScaler` and
    /// [`Clip::error_if_nonfinite`](crate::Clip::error_if_nonfinite).
    ///
    /// # Units
    ///
    /// The gradients are those of the loss: no scale.
    ///
    /// # Errors
    ///
    /// When a gradient is not of its parameter's shape, or not a float.
    fn step(&mut self, grads: &GradStore) -> Result<()> {
        self.scaled_step(grads, Scaling::None).map(drop)
    }

    /// The learning rate of the parameters whose group does not change it: what the last step was taken with, or would have
    /// been, had it not been skipped. Before the first step, and after the rate or schedule was set, that of the next step.
    ///
    /// Does not wait: under a schedule on a CUDA device it is that of the last step that the host has heard of, and NaN where
    /// the device has failed.
    fn learning_rate(&self) -> f64;

    /// The same for the very last step. Waits for a CUDA device.
    ///
    /// # Errors
    ///
    /// When the device fails.
    fn last_learning_rate(&self) -> Result<f64>;

    /// Sets the learning rate, and removes the schedule; groups keep their multiples of it.
    ///
    /// # Errors
    ///
    /// When it is negative, infinite or NaN.
    fn set_learning_rate(&mut self, lr: f64) -> Result<()>;

    /// Takes each step from here on with the schedule's rate for the number of steps applied before it; groups keep their
    /// multiples. `None` goes back to the rate of the settings, or that was set last.
    ///
    /// On a CUDA device it is the device that looks the rate up, by its own count: a skipped step does not move the
    /// schedule, whenever the host hears of it.
    fn set_schedule(&mut self, schedule: Option<Schedule>);

    /// Clips the unscaled gradients of each step from here on inside the step, in place of any clip before.
    fn set_clip(&mut self, clip: Option<Clip>);

    /// The seed of a run, which stochastic rounding draws under together with its own. 0, the default, leaves that one as
    /// it is. The other write-backs draw nothing: there it has no effect.
    fn set_seed(&mut self, seed: u64);

    /// Whether it draws at all: whether it rounds stochastically.
    fn draws(&self) -> bool;

    /// How many steps changed the parameters, how many were skipped, and of how many the host has not heard: on a CUDA device
    /// it does not wait. `applied` counts those of a state that was loaded, too.
    ///
    /// # Errors
    ///
    /// When the device has failed.
    fn steps(&self) -> Result<StepCounts>;

    /// The global norm of the unscaled gradients at the last step, before clipping, where it was taken: when the
    /// optimizer clips by norm, or a scaler looked at the gradients. After a skipped step it is infinite or NaN. On a CUDA
    /// device, the last step that the host has heard of.
    fn grad_norm(&self) -> Option<f64>;

    /// The same for the very last step. Waits for a CUDA device.
    ///
    /// # Errors
    ///
    /// When the device fails.
    fn last_grad_norm(&self) -> Result<Option<f64>>;

    /// The optimizer's state: `<parameter>.<what>` for each, and `applied_steps`. Copies on the CPU, which later steps
    /// leave alone, and which an optimizer on any device can load. Waits for a CUDA device.
    ///
    /// # Errors
    ///
    /// When candle fails.
    fn state_dict(&self) -> Result<HashMap<String, Tensor>>;

    /// Restores a state: [`load_state_dict_with`](Self::load_state_dict_with), strictly.
    ///
    /// # Errors
    ///
    /// As for [`load_state_dict_with`](Self::load_state_dict_with).
    fn load_state_dict(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        self.load_state_dict_with(state, Strictness::Strict).map(drop)
    }

    /// Restores a state, which may have been saved at another precision, and reports what did not fit as it was. Load the
    /// parameters first. Nothing changes where it returns an error.
    ///
    /// - Moments are converted to the arithmetic's dtype, rounded once.
    /// - What a 16-bit parameter cannot hold is converted from master to compensation and back. Where the state has neither
    ///   for any parameter, it starts from the parameter; where there is no place for it, it is left out.
    /// - Counts may be integers or whole floats, scalars or of one element.
    ///
    /// Where lenient, a parameter whose entries are not all there starts anew, a missing `applied_steps` is the largest
    /// count of a parameter, and unknown entries are left out.
    ///
    /// # Errors
    ///
    /// When an entry is no float or not of its parameter's shape, or no count; where strict, when one is missing or has no
    /// place here.
    fn load_state_dict_with(
        &mut self,
        state: &HashMap<String, Tensor>,
        strictness: Strictness,
    ) -> Result<LoadReport>;
}
