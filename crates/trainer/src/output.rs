//! What a step gives: a loss, metrics beside it, and how many samples they are of.

use candle_core::Tensor;

use crate::Result;
use crate::trainer::{LOSS, one_number};

/// The loss of a batch, and metrics beside it.
///
/// Losses and metrics are means over the batch's samples. They stay where they are until somebody reads them, and are
/// averaged over samples, so that batches of unequal size count as what they are.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// use trainer::StepOutput;
/// use trainer::autocast::ops::{self, CrossEntropy};
/// use trainer::candle_core::{DType, Device, Tensor};
///
/// // As a `training_step` ends.
/// fn classified(logits: &Tensor, classes: &Tensor) -> trainer::Result<StepOutput> {
///     let loss = ops::cross_entropy(logits, classes, &CrossEntropy::default())?;
///     let right = logits.argmax(1)?.eq(classes)?.to_dtype(DType::F32)?.mean_all()?;
///     Ok(StepOutput::new(loss).with_metric("accuracy", right))
/// }
///
/// let logits = Tensor::new(&[[2f32, 0.], [0., 1.]], &Device::Cpu)?;
/// let output = classified(&logits, &Tensor::new(&[0u32, 1], &Device::Cpu)?)?;
/// # let _ = output;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct StepOutput {
    pub(crate) loss: Tensor,
    pub(crate) metrics: Vec<(String, Tensor)>,
    pub(crate) samples: Option<usize>,
}

impl StepOutput {
    /// A loss: a tensor of one float.
    pub fn new(loss: Tensor) -> Self {
        Self { loss, metrics: Vec::new(), samples: None }
    }

    /// A number beside the loss, such as an accuracy: a tensor of one float. Nothing flows back from it.
    pub fn with_metric(mut self, name: impl Into<String>, value: Tensor) -> Self {
        self.metrics.push((name.into(), value.detach()));
        self
    }

    /// How many samples the numbers are means over. By default the length of the first dimension of the batch's first tensor.
    pub fn with_samples(self, samples: usize) -> Self {
        Self { samples: Some(samples), ..self }
    }

    /// Every tensor a scalar.
    pub(crate) fn checked(self) -> Result<Self> {
        let metrics = self.metrics.into_iter().map(|(name, value)| {
            let value = one_number(&name, value)?;
            Ok((name, value))
        });
        Ok(Self { metrics: metrics.collect::<Result<_>>()?, loss: one_number(LOSS, self.loss)?, ..self })
    }
}

impl From<Tensor> for StepOutput {
    fn from(loss: Tensor) -> Self {
        Self::new(loss)
    }
}
