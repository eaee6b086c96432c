//! The trainer: a precision, a device, and the context in which a model runs on them.

use std::collections::HashMap;

use autocast::Autocast;
use candle_core::{Device, Tensor};
use grad_scaler::{DiagnosticsConfig, ScalerConfig};
use precision_types::{Accelerator, Precision};

use crate::{Batch, Notice, Result, TrainerBuilder, TrainingModule};

/// Trains models at one precision on one device.
///
/// Made by [`Trainer::builder`]; [`fit`](Trainer::fit) trains, [`evaluate`](Trainer::evaluate) and
/// [`predict`](Trainer::predict) use what was trained.
#[derive(Debug)]
pub struct Trainer {
    pub(crate) precision: Precision,
    pub(crate) accelerator: Accelerator,
    pub(crate) device: Device,
    /// The autocast region of a mixed precision; a true precision has none.
    pub(crate) region: Option<Autocast>,
    pub(crate) notice: Option<Notice>,
    pub(crate) max_steps: usize,
    pub(crate) seed: u64,
    pub(crate) loss_scaling: ScalerConfig,
    pub(crate) diagnostics: Option<DiagnosticsConfig>,
    pub(crate) initial_values: HashMap<String, Tensor>,
}

impl Trainer {
    /// A builder with default settings.
    pub fn builder() -> TrainerBuilder {
        TrainerBuilder::default()
    }

    /// The precision in use.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The accelerator in use.
    #[must_use]
    pub fn accelerator(&self) -> Accelerator {
        self.accelerator
    }

    /// The device that parameters and batches are on.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The most steps that [`fit`](Self::fit) takes.
    #[must_use]
    pub fn max_steps(&self) -> usize {
        self.max_steps
    }

    /// What the user should be told about the settings, if anything.
    #[must_use]
    pub fn notice(&self) -> Option<&Notice> {
        self.notice.as_ref()
    }

    /// Moves a batch to the device and, at a `-true` precision, its floats to the parameters' dtype. Integers stay
    /// integers.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn prepare<B: Batch>(&self, batch: B) -> Result<B> {
        batch.map_tensors(&mut |tensor| {
            let tensor = tensor.to_device(&self.device)?;
            let cast = tensor.dtype().is_float() && !self.precision.is_mixed();
            Ok(if cast { tensor.to_dtype(self.precision.param_dtype().into())? } else { tensor })
        })
    }

    /// Runs `forward` as training does, in the precision's autocast region if it has one, and records no gradient.
    ///
    /// # Errors
    /// Those of `forward`.
    pub fn predict<T>(&self, forward: impl FnOnce() -> Result<T>) -> Result<T> {
        autocast::no_grad(|| self.run(forward))
    }

    /// The mean of `training_step` over `batches`, without training.
    ///
    /// # Errors
    /// Those of `training_step`.
    pub fn evaluate<M: TrainingModule>(
        &self,
        module: &M,
        batches: impl IntoIterator<Item = M::Batch>,
    ) -> Result<f64> {
        let losses = batches.into_iter().map(|batch| {
            let batch = self.prepare(batch)?;
            read(&self.predict(|| module.training_step(&batch))?)
        });
        let losses = losses.collect::<Result<Vec<f64>>>()?;
        Ok(losses.iter().sum::<f64>() / losses.len() as f64)
    }

    pub(crate) fn run<T>(&self, forward: impl FnOnce() -> T) -> T {
        match &self.region {
            Some(region) => region.run(forward),
            None => forward(),
        }
    }
}

/// The one number in a tensor, read from its device.
pub(crate) fn read(scalar: &Tensor) -> Result<f64> {
    Ok(scalar.to_dtype(candle_core::DType::F64)?.to_scalar()?)
}
