//! One wide layer, for checks of what steps cost.

use autocast::{nn, ops};
use candle_core::{Module, Tensor};
use candle_nn::VarBuilder;
use optim::{Sgd, SgdConfig};
use trainer::{Optimization, Parameters, TrainingModule};

/// One layer of 1024 to 1024.
#[derive(Default)]
pub struct WideLayer(Option<nn::Linear>);

impl TrainingModule for WideLayer {
    type Batch = (Tensor, Tensor);

    fn configure_model(&mut self, vb: VarBuilder) -> trainer::Result<()> {
        self.0 = Some(nn::linear(1024, 1024, vb)?);
        Ok(())
    }

    fn training_step(&self, (x, y): &Self::Batch) -> trainer::Result<Tensor> {
        let layer = self.0.as_ref().expect("configured before the first step");
        Ok(ops::mse_loss(&layer.forward(x)?, y, ops::Reduction::Mean)?)
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        Ok(Optimization::new(Sgd::new(parameters.to_named(), SgdConfig { lr: 0.01, ..Default::default() })?))
    }
}
