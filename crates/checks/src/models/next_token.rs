//! How the GPTs are trained that learn which token follows: logits of all tokens, their cross-entropy, AdamW.

use autocast::ops::{CrossEntropy, cross_entropy};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use optim::{AdamW, AdamWConfig};
use trainer::{Optimization, Parameters, StepContext, StepOutput, TrainingModule};

use super::{Gpt, GptConfig};

/// A GPT of a size, and the settings of its AdamW.
pub(super) struct NextToken {
    pub(super) size: GptConfig,
    pub(super) adamw: AdamWConfig,
}

impl TrainingModule for NextToken {
    type Model = Gpt;
    type Batch = (Tensor, Tensor);

    fn build(&self, vb: VarBuilder) -> trainer::Result<Gpt> {
        Ok(Gpt::new(self.size, vb)?)
    }

    fn training_step(
        &self,
        gpt: &Gpt,
        (inputs, targets): &Self::Batch,
        _: &StepContext,
    ) -> trainer::Result<StepOutput> {
        let logits = gpt.forward(inputs)?.flatten_to(1)?;
        Ok(cross_entropy(&logits, &targets.flatten_all()?, &CrossEntropy::default())?.into())
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        Ok(Optimization::new(AdamW::new(parameters.to_named(), self.adamw)?))
    }
}
