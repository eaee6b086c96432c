//! `Scaled`: candle-nn's optimizers, as a scaler drives them.

use crate::{Error, OptimizerId, Parameter, Result, ScaledOptimizer, Unscaling, gradients};
use backends::bridge::cast;
use candle_core::backprop::GradStore;
use candle_nn::Optimizer;

/// Any `candle_nn::Optimizer` together with its parameters, which candle-nn's trait does not tell.
#[derive(Debug)]
pub struct Scaled<O> {
    id: OptimizerId,
    parameters: Vec<Parameter>,
    optimizer: O,
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
        Ok(Self { id: OptimizerId::new(), parameters, optimizer: O::new(vars, config)? })
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

    /// candle-nn computes in the variable's dtype, so that the unscaled gradient is cast to it.
    fn step_unscaling(&mut self, grads: &GradStore, unscaling: &Unscaling) -> Result<()> {
        let mut unscaled = GradStore::default();
        for Parameter { var, .. } in &self.parameters {
            if let Some(grad) = grads.get(var) {
                let wide = gradients::unscaled(grad, unscaling.inv_scale())?;
                unscaled.insert(var, cast(&wide, var.dtype())?);
            }
        }
        self.optimizer.step(&unscaled).map_err(|error| Error::Optimizer(Box::new(error)))
    }
}
