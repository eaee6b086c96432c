//! From a handful of settings to a [`Trainer`]: every setting is checked here, before any work starts.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use autocast::Autocast;
use candle_core::Tensor;
use grad_scaler::{DiagnosticsConfig, ScalerConfig, Strictness};
use precision_types::{IntoPrecision, Precision, RequestedPrecision};

use crate::followers::Followers;
use crate::notice::Listener;
use crate::settings::{LoopSettings, StepSettings};
use crate::storage::Storage;
use crate::{
    AcceleratorChoice, Callback, IntoAcceleratorChoice, Logger, ModelCheckpoint, Notice, OwnPrecision,
    Result, Trainer, TrainingState,
};

/// What to do when the accelerator does not support the precision.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// use trainer::{OnUnsupported, Precision, Trainer};
///
/// let builder = || Trainer::builder().precision("16-mixed").accelerator("cpu");
/// assert!(builder().build().is_err());
/// let trainer = builder().on_unsupported(OnUnsupported::Fallback).build()?;
/// assert_eq!(trainer.precision(), Precision::Bf16Mixed);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnsupported {
    /// Refuse, naming the precisions that are supported.
    #[default]
    Error,
    /// Take the nearest supported precision; [`Trainer::notice`] says which.
    Fallback,
}

/// What becomes of a step whose gradients are not all finite.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches};
/// use trainer::{Error, OnNonFinite, Trainer};
///
/// let mut data = batches(3)?;
/// data[1].1 = (&data[1].1 * f64::NAN)?;
/// let builder = || Trainer::builder().accelerator("cpu").max_epochs(1);
/// let fit = builder().build()?.fit(&Line, &data)?;
/// assert_eq!((fit.losses.len(), fit.skipped_steps), (3, 1));
///
/// let error = builder().on_non_finite(OnNonFinite::Stop).build()?.fit(&Line, &data).unwrap_err();
/// assert!(matches!(error, Error::Stopped { step: 1, .. }));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnNonFinite {
    /// It is not taken: parameters, moments, counters and running statistics stay as they are, and training goes on.
    #[default]
    Skip,
    /// It is not taken, and the fit ends with [`Error::NonFinite`](crate::Error::NonFinite) and all that was trained before. Every step waits for
    /// the device.
    ///
    /// At the precisions that scale the loss, overflow is how the scale is found. There the fit ends where the loss itself
    /// is not finite, or where the scale cannot back off any further.
    Stop,
    /// It is taken, as PyTorch does: an infinity or NaN then spreads through the parameters. Has no effect at the
    /// precisions that scale the loss, whose scaler skips such steps.
    Apply,
}

/// The settings of a [`Trainer`].
///
/// No setting is needed: the default trains in 32-true on the best accelerator for 1,000 steps. The settings of the loop are those
/// of PyTorch Lightning's `Trainer`, under its names.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches};
/// use trainer::Trainer;
///
/// let trainer = Trainer::builder()
///     .precision("bf16-mixed")
///     .accelerator("cpu")
///     .max_epochs(3)
///     .accumulate_grad_batches(2)
///     .gradient_clip_val(1.0)
///     .build()?;
/// // Eight batches are four steps an epoch.
/// let fit = trainer.fit(&Line, &batches(8)?)?;
/// assert_eq!(fit.position.step, 12);
/// # Ok(())
/// # }
/// ```
#[must_use = "call build() to get the trainer"]
pub struct TrainerBuilder {
    precision: precision_types::Result<RequestedPrecision>,
    accelerator: Result<AcceleratorChoice>,
    on_unsupported: OnUnsupported,
    followers: Followers,
    pub(crate) settings: Settings,
}

impl Default for TrainerBuilder {
    fn default() -> Self {
        Self {
            precision: Ok(Precision::F32True.into()),
            accelerator: Ok(AcceleratorChoice::Auto),
            on_unsupported: OnUnsupported::default(),
            followers: Followers::default(),
            settings: Settings::default(),
        }
    }
}

/// What a builder was told and its trainer keeps as it is.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) run: LoopSettings,
    pub(crate) steps: StepSettings,
    pub(crate) checkpoint: Option<ModelCheckpoint>,
    /// As it was set, or not.
    pub(crate) seed: Option<u64>,
    pub(crate) storage: Storage,
    pub(crate) on_non_finite: OnNonFinite,
    pub(crate) loss_scaling: Option<ScalerConfig>,
    pub(crate) diagnostics: Option<DiagnosticsConfig>,
    pub(crate) initial_values: HashMap<String, Tensor>,
    pub(crate) strictness: Strictness,
    pub(crate) resume: Option<TrainingState>,
    pub(crate) listener: Listener,
}

impl TrainerBuilder {
    /// The precision: `"16-mixed"`, `"bf16-mixed"`, `"16-true"`, `"bf16-true"`, `"32-true"`, `"64-true"`, a
    /// [`Precision`], the name of an [`OwnPrecision`], or one of Lightning's historical names.
    pub fn precision(mut self, precision: impl IntoPrecision) -> Self {
        self.precision = precision.into_precision();
        self
    }

    /// At a mixed precision, gives the model its parameters in the dtype that is multiplied in, 16 bits, and the optimizers f32
    /// masters: for models of candle-nn's layers, which do not follow a mixed precision and compute in the dtype of their
    /// parameters.
    ///
    /// The floats of batches come in that dtype as well. Gradients have 16 bits and go into an f32 step, after which a parameter is
    /// what its master rounds to; a step that is skipped changes neither. Ops of `autocast::ops` follow the precision as always,
    /// so that a loss from there is computed in f32. Checkpoints have parameters and masters. At a `-true` precision it has no
    /// effect, which is told.
    ///
    /// ```
    /// # fn main() -> trainer::Result<()> {
    /// use trainer::candle_core::DType;
    /// use trainer::{Trainer, candle_nn};
    ///
    /// let trainer =
    ///     Trainer::builder().precision("bf16-mixed").accelerator("cpu").parameters_in_compute_dtype().build()?;
    /// let (layer, _) = trainer.init_module(|vb| Ok(candle_nn::linear(8, 2, vb)?))?;
    /// assert_eq!(layer.weight().dtype(), DType::BF16);
    /// # Ok(())
    /// # }
    /// ```
    pub fn parameters_in_compute_dtype(mut self) -> Self {
        self.settings.storage = Storage::InComputeDtype;
        self
    }

    /// Where to train: `"auto"`, `"cpu"`, `"gpu"`, or an [`Accelerator`](precision_types::Accelerator).
    pub fn accelerator(mut self, accelerator: impl IntoAcceleratorChoice) -> Self {
        self.accelerator = accelerator.into_accelerator_choice();
        self
    }

    /// The seed of everything that is random in a fit: initial values, dropout, stochastic rounding. The default is 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = Some(seed);
        self
    }

    /// What becomes of a step whose gradients are not all finite. The default skips it.
    pub fn on_non_finite(mut self, on_non_finite: OnNonFinite) -> Self {
        self.settings.on_non_finite = on_non_finite;
        self
    }

    /// Who is told what comes up at a fit's first step, such as a setting without an effect. The default prints a warning
    /// to the standard error; [`Fit::notices`](crate::Fit::notices) has them, too. A program that collects `tracing` events makes
    /// one of each here.
    pub fn on_notice(mut self, listener: impl Fn(&Notice) + Send + Sync + 'static) -> Self {
        self.settings.listener = Listener(Arc::new(listener));
        self
    }

    /// What to do when the accelerator does not support the precision.
    pub fn on_unsupported(mut self, on_unsupported: OnUnsupported) -> Self {
        self.on_unsupported = on_unsupported;
        self
    }

    /// How the loss is scaled at the precisions that need it, `16-mixed` and `16-true`. The others ignore it.
    ///
    /// The default is [`ScalerConfig::recommended`], at `16-true` from 2^15: the gradient of an f16 loss is the scale
    /// itself, and 2^16 is more than f16 holds.
    pub fn loss_scaling(mut self, config: ScalerConfig) -> Self {
        self.settings.loss_scaling = Some(config);
        self
    }

    /// Has the loss scaler remember what helps when a run goes bad; [`Step::diagnostics`](crate::Step::diagnostics) shows
    /// it, and a skipped step names the parameters that overflowed. On a GPU every step then waits for the device.
    pub fn diagnostics(mut self, config: DiagnosticsConfig) -> Self {
        self.settings.diagnostics = Some(config);
        self
    }

    /// Initial values by parameter name, in any float dtype: one for every parameter, and none besides.
    pub fn initial_values(self, values: HashMap<String, Tensor>) -> Self {
        self.initial_values_with(values, Strictness::Strict)
    }

    /// [`initial_values`](Self::initial_values), which need not fit the model in everything if they are loaded leniently:
    /// for a new head on a trained body, or a checkpoint of PyTorch with its `num_batches_tracked`. Parameters without a value
    /// are then drawn from the seed, values without a parameter are left out, and a [`Notice::Weights`] names both.
    pub fn initial_values_with(mut self, values: HashMap<String, Tensor>, strictness: Strictness) -> Self {
        (self.settings.initial_values, self.settings.strictness) = (values, strictness);
        self
    }

    /// Goes on from a state instead of beginning anew. Data that can be gone through again are gone on with at the batch that
    /// follows; an iterator must begin with it. A state of another precision is converted, and a [`Notice::Resumed`] says what
    /// was.
    pub fn resume(mut self, state: TrainingState) -> Self {
        self.settings.resume = Some(state);
        self
    }

    /// Goes on from the newest state in a folder of checkpoints, or begins anew where there is none yet: for a program that may
    /// be ended at any time, and is then started again as it is.
    ///
    /// # Errors
    /// Those of [`TrainingState::latest`].
    pub fn resume_latest(mut self, folder: impl AsRef<Path>) -> Result<Self> {
        self.settings.resume = TrainingState::latest(folder)?;
        Ok(self)
    }

    /// Writes checkpoints while training.
    pub fn checkpoint(mut self, checkpoint: ModelCheckpoint) -> Self {
        self.settings.checkpoint = Some(checkpoint);
        self
    }

    /// Adds something that follows each fit.
    pub fn callback(mut self, callback: impl Callback + 'static) -> Self {
        self.followers.callbacks.push(Box::new(callback));
        self
    }

    /// Adds a place where numbers go.
    pub fn logger(mut self, logger: impl Logger + 'static) -> Self {
        self.followers.loggers.push(Box::new(logger));
        self
    }

    /// Checks the settings and opens the device. For a CPU the process keeps memory that it frees from here on, up to 2 GiB for its next
    /// buffers, and the main thread becomes one of the threads that kernels run on, if it is the one that builds and nobody has used
    /// them yet.
    ///
    /// # Errors
    /// An unknown precision or accelerator, an accelerator that is not available here, a precision that it does not
    /// support, or a setting that is out of range.
    pub fn build(self) -> Result<Trainer> {
        let mut settings = self.settings;
        let (RequestedPrecision { precision: requested, notice }, own) = match self.precision {
            Ok(requested) => (requested, None),
            Err(precision_types::Error::UnknownPrecision { got }) => match OwnPrecision::find(&got) {
                Some(own) => (own.base.into(), Some(own)),
                None => return Err(precision_types::Error::UnknownPrecision { got }.into()),
            },
            Err(error) => return Err(error.into()),
        };
        let own = own.map(Box::new);
        settings.check()?;
        self.followers.check()?;
        let (accelerator, device) = self.accelerator?.open()?;
        let precision = match (requested.supported_on(accelerator), self.on_unsupported) {
            (Ok(()), _) => requested,
            (Err(unsupported), OnUnsupported::Error) => return Err(unsupported.into()),
            (Err(unsupported), OnUnsupported::Fallback) => {
                unsupported.alternatives.first().copied().ok_or(unsupported)?
            }
        };
        let notice = match (precision == requested, notice) {
            (false, _) => Some(Notice::Fallback { requested, used: precision, accelerator }),
            (true, notice) => notice.map(Notice::Legacy),
        };
        let region = Autocast::for_precision(precision, accelerator)?;
        let own = own.filter(|own| own.base == precision);
        let region = match own.as_ref().and_then(|own| own.table.clone()) {
            Some(table) => region.map(|region| region.with_table(table)),
            None => region,
        };
        let followers = Mutex::new(Some(self.followers));
        if device.is_cpu() {
            autocast::keep_host_memory();
            autocast::join_host_threads();
        }
        Ok(Trainer { precision, own, accelerator, device, region, notice, settings, followers })
    }
}
