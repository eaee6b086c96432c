//! One wide layer, for checks of what steps cost.

use autocast::{nn, ops};
use candle_core::{Module, Tensor};
use candle_nn::VarBuilder;
use optim::{Sgd, SgdConfig};
use trainer::{Optimization, Parameters, StepContext, StepOutput, TrainingModule};

/// One layer of 1024 to 1024.
#[derive(Clone, Copy, Debug)]
pub struct WideLayer;

impl TrainingModule for WideLayer {
    type Model = nn::Linear;
    type Batch = (Tensor, Tensor);

    fn build(&self, vb: VarBuilder) -> trainer::Result<nn::Linear> {
        Ok(nn::linear(1024, 1024, vb)?)
    }

    fn training_step(
        &self,
        layer: &nn::Linear,
        (x, y): &Self::Batch,
        _: &StepContext,
    ) -> trainer::Result<StepOutput> {
        Ok(ops::mse_loss(&layer.forward(x)?, y, ops::Reduction::Mean)?.into())
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        Ok(Optimization::new(Sgd::new(parameters.to_named(), SgdConfig { lr: 0.01, ..Default::default() })?))
    }
}
