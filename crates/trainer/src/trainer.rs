//! The trainer: a precision, a device, and the context in which a model runs on them.

use autocast::random::{key, with_seed};
use autocast::{Autocast, Mode, defer_buffers, with_mode};
use candle_core::{DType, Device, Tensor};
use precision_types::{Accelerator, Precision};

use crate::builder::Settings;
use crate::losses::Losses;
use crate::{Batch, Error, Notice, Result, TrainerBuilder, TrainingModule};

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
    pub(crate) settings: Settings,
}

/// Where the random draws outside of training steps begin.
const EVALUATE: u64 = 1;
const PREDICT: u64 = 2;

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
        self.settings.max_steps
    }

    /// What the user should be told about the settings, if anything.
    #[must_use]
    pub fn notice(&self) -> Option<&Notice> {
        self.notice.as_ref()
    }

    pub(crate) fn seed(&self) -> u64 {
        self.settings.seed.unwrap_or(0)
    }

    /// Moves a batch to the device and its floats to the parameters' dtype, rounded once. Integers stay integers.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn prepare<B: Batch>(&self, batch: B) -> Result<B> {
        batch.map_tensors(&mut |tensor| {
            let floats = tensor.dtype().is_float();
            let tensor = tensor.to_device(&self.device)?;
            Ok(if floats { autocast::cast_to(&tensor, self.precision.param_dtype().into())? } else { tensor })
        })
    }

    /// Runs `forward` as training does, in the precision's autocast region if it has one, but in [`Mode::Evaluate`] and
    /// without recording a gradient or changing anything. Floats come out in the precision's
    /// [`output_dtype`](Precision::output_dtype).
    ///
    /// # Errors
    /// Those of `forward`.
    pub fn predict<T: Batch>(&self, forward: impl FnOnce() -> Result<T>) -> Result<T> {
        let seed = key(&[self.seed(), PREDICT]);
        let output = self.outside_of_training(seed, 0, forward)?;
        output.map_tensors(&mut |tensor| match tensor.dtype().is_float() {
            true => Ok(autocast::cast_to(&tensor, self.precision.output_dtype().into())?),
            false => Ok(tensor),
        })
    }

    /// The mean of `validation_step` over the samples of `batches`, in [`Mode::Evaluate`], without training or changing
    /// anything. The number of samples of a batch is the length of the first dimension of its first tensor.
    ///
    /// # Errors
    /// Those of `validation_step`, except [`Error::NoLoss`], which leaves a batch out; [`Error::NoData`] where none is left.
    pub fn evaluate<M: TrainingModule>(
        &self,
        module: &M,
        batches: impl IntoIterator<Item = M::Batch>,
    ) -> Result<f64> {
        let seed = key(&[self.seed(), EVALUATE]);
        let (mut losses, mut samples) = (Losses::new(&self.device)?, Vec::new());
        for (index, batch) in batches.into_iter().enumerate() {
            let (batch, count) = counted(batch)?;
            let batch = self.prepare(batch)?;
            let step = || module.validation_step(&batch);
            let loss = match self.outside_of_training(seed, index as u64, step) {
                Err(Error::NoLoss) => continue,
                loss => one_number(loss.map_err(Error::explained)?)?,
            };
            losses.push(&loss)?;
            samples.push(count as f64);
        }
        let total: f64 = samples.iter().sum();
        if total == 0. {
            return Err(Error::NoData { what: "evaluate" });
        }
        let weighted = losses.into_read()?.into_iter().zip(&samples).map(|(loss, count)| loss * count);
        Ok(weighted.sum::<f64>() / total)
    }

    fn outside_of_training<T>(&self, seed: u64, step: u64, forward: impl FnOnce() -> Result<T>) -> Result<T> {
        let forward = || with_mode(Mode::Evaluate, || autocast::no_grad(|| self.run(forward)));
        let ((output, _), _) = defer_buffers(|| with_seed(seed, step, forward));
        output
    }

    pub(crate) fn run<T>(&self, forward: impl FnOnce() -> T) -> T {
        match &self.region {
            Some(region) => region.run(forward),
            None => forward(),
        }
    }
}

/// A batch and the number of its samples.
fn counted<B: Batch>(batch: B) -> Result<(B, usize)> {
    let mut samples = None;
    let batch = batch.map_tensors(&mut |tensor| {
        samples.get_or_insert_with(|| tensor.dims().first().copied().unwrap_or(1));
        Ok(tensor)
    })?;
    Ok((batch, samples.unwrap_or(1)))
}

/// A loss as a scalar.
pub(crate) fn one_number(loss: Tensor) -> Result<Tensor> {
    if loss.elem_count() != 1 {
        return Err(Error::LossShape { shape: loss.dims().to_vec() });
    }
    if !loss.dtype().is_float() {
        return Err(Error::LossDType { dtype: loss.dtype() });
    }
    Ok(if loss.rank() == 0 { loss } else { loss.reshape(())? })
}

/// The one number in a tensor, read from its device.
pub(crate) fn read(scalar: &Tensor) -> Result<f64> {
    Ok(scalar.to_dtype(DType::F64)?.to_scalar()?)
}
