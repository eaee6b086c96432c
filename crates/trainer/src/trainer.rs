//! The trainer: a precision, a device, and the context in which a model runs on them.

use std::sync::Mutex;

use autocast::random::{key, with_seed};
use autocast::{Autocast, Mode, RegionGuard, defer_buffers, with_mode};
use candle_core::{DType, Device, Tensor};
use precision_types::{Accelerator, Precision};

use crate::builder::Settings;
use crate::followers::Followers;
use crate::matmul::multiplying;
use crate::precision_plugin;
use crate::{Batch, Error, Notice, OwnPrecision, Result, TrainerBuilder};

/// Trains models at one precision on one device.
///
/// Made by [`Trainer::builder`]; [`fit`](Trainer::fit) trains, [`validate`](Trainer::validate), [`test`](Trainer::test) and
/// [`predict`](Trainer::predict) use what was trained.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches};
/// use trainer::Trainer;
///
/// let trainer = Trainer::builder().precision("bf16-mixed").accelerator("cpu").max_epochs(20).build()?;
/// let fit = trainer.fit(&Line, &batches(6)?)?;
/// let metrics = trainer.validate(&Line, &fit.model, &batches(2)?)?;
/// assert!(metrics.get("val_loss").is_some_and(|loss| loss < fit.losses[0]));
/// let predicted = trainer.predict(&Line, &fit.model, &batches(2)?)?;
/// assert_eq!(predicted[0].dims(), [4, 1]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Trainer {
    pub(crate) precision: Precision,
    /// What a user's own precision has beside it.
    pub(crate) own: Option<Box<OwnPrecision>>,
    pub(crate) accelerator: Accelerator,
    pub(crate) device: Device,
    /// The autocast region of a mixed precision; a true precision has none.
    pub(crate) region: Option<Autocast>,
    pub(crate) notice: Option<Notice>,
    pub(crate) settings: Settings,
    /// Taken out while a fit has them.
    pub(crate) followers: Mutex<Option<Followers>>,
}

/// Where the random draws of [`Trainer::infer`] begin.
const INFER: u64 = 2;

impl Trainer {
    /// A builder with default settings.
    pub fn builder() -> TrainerBuilder {
        TrainerBuilder::default()
    }

    /// The precision in use; of an [`OwnPrecision`], the one whose storage and loss scaling it has.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The name of the precision in use.
    #[must_use]
    pub fn precision_name(&self) -> &str {
        self.own.as_ref().map_or(self.precision.as_str(), |own| &own.name)
    }

    /// The dtype in which predictions leave.
    fn output_dtype(&self) -> DType {
        self.own.as_ref().map_or_else(|| self.precision.output_dtype().into(), |own| own.output)
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

    /// The most steps that [`fit`](Self::fit) takes, where there is a limit.
    #[must_use]
    pub fn max_steps(&self) -> Option<usize> {
        self.settings.run.steps()
    }

    /// What the user should be told about the settings, if anything.
    #[must_use]
    pub fn notice(&self) -> Option<&Notice> {
        self.notice.as_ref()
    }

    /// The one that was set, or else that of the state that is gone on from.
    pub(crate) fn seed(&self) -> u64 {
        let resumed = || self.settings.resume.as_ref().map(|state| state.seed);
        self.settings.seed.or_else(resumed).unwrap_or(0)
    }

    /// Moves a batch to the device and its floats to the parameters' dtype, rounded once. Integers stay integers.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn prepare<B: Batch>(&self, batch: B) -> Result<B> {
        precision_plugin::convert(batch, &self.device, self.param_dtype())
    }

    /// Runs `forward` as training does, in the precision's autocast region if it has one, but in [`Mode::Evaluate`] and
    /// without recording a gradient or changing anything. Floats come out in the precision's
    /// [`output_dtype`](Precision::output_dtype).
    ///
    /// # Errors
    /// Those of `forward`.
    pub fn infer<T: Batch>(&self, forward: impl FnOnce() -> Result<T>) -> Result<T> {
        self.inferred(0, forward)
    }

    /// The same in the `nth` place of the draws.
    pub(crate) fn inferred<T: Batch>(&self, nth: u64, forward: impl FnOnce() -> Result<T>) -> Result<T> {
        let seed = key(&[self.seed(), INFER]);
        let output = self.outside_of_training(seed, nth, forward)?;
        output.map_tensors(&mut |tensor| match tensor.dtype().is_float() {
            true => Ok(autocast::cast_to(&tensor, self.output_dtype())?),
            false => Ok(tensor),
        })
    }

    pub(crate) fn outside_of_training<T>(
        &self,
        seed: u64,
        step: u64,
        forward: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let forward = || with_mode(Mode::Evaluate, || autocast::no_grad(|| self.run(forward)));
        let forward = || defer_buffers(|| with_seed(seed, step, forward));
        let ((output, _), _) = multiplying(self.settings.steps.products(), forward);
        output
    }

    /// Keeps the casts of parameters that the region makes from one batch to the next, until the guard is dropped. What is run
    /// between batches, such as the caller's data, is in no region.
    pub(crate) fn keep_casts(&self) -> Option<RegionGuard> {
        self.region.clone().map(|region| region.disabled().enter())
    }

    pub(crate) fn run<T>(&self, forward: impl FnOnce() -> T) -> T {
        precision_plugin::run(self.region.as_ref(), forward)
    }
}

/// A batch and the number of its samples: the length of the first dimension of its first tensor.
pub(crate) fn counted<B: Batch>(batch: B) -> Result<(B, usize)> {
    let mut samples = None;
    let batch = batch.map_tensors(&mut |tensor| {
        samples.get_or_insert_with(|| tensor.dims().first().copied().unwrap_or(1));
        Ok(tensor)
    })?;
    Ok((batch, samples.unwrap_or(1)))
}

/// A loss or metric as a scalar.
pub(crate) fn one_number(name: &str, number: Tensor) -> Result<Tensor> {
    if number.elem_count() != 1 || !number.dtype().is_float() {
        let (shape, dtype) = (number.dims().to_vec(), number.dtype());
        return Err(Error::NotOneNumber { name: name.to_string(), shape, dtype });
    }
    Ok(if number.rank() == 0 { number } else { number.reshape(())? })
}

/// What a loss is called among the metrics.
pub(crate) const LOSS: &str = "loss";

/// The one number in a tensor, read from its device.
pub(crate) fn read(scalar: &Tensor) -> Result<f64> {
    Ok(scalar.to_dtype(DType::F64)?.to_scalar()?)
}
