//! `Scaled`: candle-nn's optimizers, as a scaler drives them.

use crate::active::unscaled;
use backends::bridge::cast;
use backends::kernels::step::{Outcome, Pending, Scaling, Seen};
use candle_core::Tensor;
use candle_core::backprop::GradStore;
use candle_nn::Optimizer;
use optim::{Error, OptimizerId, Parameter, Result, ScaledOptimizer, gradients};

/// Any `candle_nn::Optimizer` together with its parameters, which candle-nn's trait does not tell.
///
/// candle-nn computes in the variable's dtype and knows no scale: the host decides whether a step is taken, and so waits for
/// a CUDA device at every step under a scaler.
#[derive(Debug)]
pub struct Scaled<O> {
    id: OptimizerId,
    parameters: Vec<Parameter>,
    optimizer: O,
    applied: u64,
}

impl<O: Optimizer> Scaled<O> {
    /// Makes the optimizer over `parameters`.
    ///
    /// # Errors
    ///
    /// [`Error::NoParameters`], and whatever the optimizer's constructor fails with.
    pub fn new<P>(parameters: impl IntoIterator<Item = P>, config: O::Config) -> Result<Self>
    where
        P: Into<Parameter>,
    {
        let parameters: Vec<Parameter> = parameters.into_iter().map(Into::into).collect();
        if parameters.is_empty() {
            return Err(Error::NoParameters);
        }
        let vars = parameters.iter().map(|parameter| parameter.var.clone()).collect();
        Ok(Self { id: OptimizerId::new(), parameters, optimizer: O::new(vars, config)?, applied: 0 })
    }

    /// The optimizer itself.
    pub fn get_ref(&self) -> &O {
        &self.optimizer
    }

    /// The optimizer itself, to set its learning rate.
    pub fn get_mut(&mut self) -> &mut O {
        &mut self.optimizer
    }
}

impl<O: Optimizer> ScaledOptimizer for Scaled<O> {
    fn id(&self) -> OptimizerId {
        self.id
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Waits for a CUDA device, unless there is no scale.
    fn scaled_step(&mut self, grads: &GradStore, scaling: Scaling<'_>) -> Result<Pending> {
        let present = gradients(&self.parameters, grads)?;
        let (inv_scale, seen) = match scaling {
            Scaling::None => (1.0, None),
            Scaling::TakenOut(seen) => (1.0, Some(seen.clone())),
            Scaling::Carried(scale) => {
                let by_slot: Vec<(usize, &Tensor)> =
                    present.iter().map(|(slot, grad)| (*slot, grad)).collect();
                (scale.wait_for_state()?.inv_scale(), Some(scale.look(&by_slot)?))
            }
        };
        let found_inf = seen.as_ref().is_some_and(Seen::found_inf);
        let grad_norm = seen.as_ref().map(Seen::norm);
        let outcome = Outcome { found_inf, grad_norm, applied_before: self.applied };
        if !found_inf {
            let mut own = GradStore::default();
            for (slot, grad) in &present {
                let var = &self.parameters[*slot].var;
                own.insert(var, cast(&unscaled(grad, inv_scale)?, var.dtype())?);
            }
            self.optimizer.step(&own)?;
            self.applied += 1;
        }
        Ok(Pending::known(outcome, seen.unwrap_or_default()))
    }
}
