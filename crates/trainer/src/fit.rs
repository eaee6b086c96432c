//! Training: what it gives, and how it is asked for. The loop is in [`fitting`](crate::fitting).

use std::fmt;
use std::sync::Arc;

use candle_nn::VarBuilder;
use serde_json::{Map, Value};
use tracing::info_span;

use crate::fitting::{Fitting, Validation};
use crate::matmul::multiplying;
use crate::run::Progress;
use crate::{
    Data, EndReason, IntoData, Metrics, Notice, Parameters, Position, Result, Step, Trainer, TrainingModule,
    TrainingState,
};

/// What training gave. After an error there is no model, only what it was made of.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches, folder};
/// use trainer::{EndReason, Trainer, load_weights};
///
/// let trainer = Trainer::builder().accelerator("cpu").max_steps(5).build()?;
/// let fit = trainer.fit(&Line, &batches(3)?)?;
/// assert_eq!((fit.losses.len(), &fit.reason), (5, &EndReason::MaxSteps));
/// // What candle, PyTorch and `initial_values` load.
/// # let folder = folder("fit");
/// # let file = folder.join("model.safetensors");
/// # std::fs::create_dir_all(file.parent().unwrap()).unwrap();
/// fit.parameters.save(&file)?;
/// assert!(load_weights(&file)?.contains_key("weight"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Fit<Model = ()> {
    /// The trained model.
    pub model: Model,
    /// The loss of every step, before the step's update: the mean over its batches. Of several optimizers, that of the first
    /// whose turn it was.
    pub losses: Vec<f64>,
    /// Steps whose gradients were not finite and which therefore changed nothing.
    pub skipped_steps: usize,
    /// The trained parameters.
    pub parameters: Parameters,
    /// What came up, such as a setting without an effect.
    pub notices: Vec<Notice>,
    /// Why it ended.
    pub reason: EndReason,
    /// Where it ended.
    pub position: Position,
    /// The last validation; empty where there was none.
    pub metrics: Metrics,
    pub(crate) callbacks: Map<String, Value>,
    pub(crate) progress: Arc<Progress>,
}

impl<Model> Fit<Model> {
    /// All that another fit needs to go on, also in the middle of an epoch or of an accumulated batch.
    ///
    /// # Errors
    /// When the device cannot be read.
    pub fn state(&self) -> Result<TrainingState> {
        self.progress.state(self.callbacks.clone())
    }
}

impl Fit {
    pub(crate) fn with_model<Model>(self, model: Model) -> Fit<Model> {
        Fit {
            model,
            losses: self.losses,
            skipped_steps: self.skipped_steps,
            parameters: self.parameters,
            notices: self.notices,
            reason: self.reason,
            position: self.position,
            metrics: self.metrics,
            callbacks: self.callbacks,
            progress: self.progress,
        }
    }
}

impl<Model> fmt::Debug for Fit<Model> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fit")
            .field("losses", &self.losses)
            .field("skipped_steps", &self.skipped_steps)
            .field("parameters", &self.parameters)
            .field("notices", &self.notices)
            .field("reason", &self.reason)
            .field("position", &self.position)
            .field("metrics", &self.metrics)
            .finish_non_exhaustive()
    }
}

impl Trainer {
    /// Trains `module` on `data`: a [`DataSource`](crate::DataSource) such as `&batches` or a loader, a closure from an epoch to
    /// an iterator, or an iterator, which is gone through once.
    ///
    /// The model is made anew: a second call starts from the seed, or the resumed state, again, and gives the same to the
    /// last bit.
    ///
    /// # Errors
    /// Those of the module, the data and the callbacks; [`Error::MissingGradient`](crate::Error::MissingGradient) when the first
    /// step leaves a parameter without a gradient; [`Error::NoData`](crate::Error::NoData). An error after the first step comes
    /// as [`Error::Stopped`](crate::Error::Stopped), with what was trained before it.
    pub fn fit<M: TrainingModule, Kind>(
        &self,
        module: &M,
        data: impl IntoData<M::Batch, Kind>,
    ) -> Result<Fit<M::Model>> {
        self.fit_with(module, data, |_| Ok(()))
    }

    /// [`fit`](Self::fit), calling `on_step` after every step. An error that it returns ends the training.
    ///
    /// ```
    /// # fn main() -> trainer::Result<()> {
    /// # use trainer::doc_example::{Line, batches};
    /// use trainer::Trainer;
    ///
    /// let trainer = Trainer::builder().accelerator("cpu").max_steps(6).build()?;
    /// let mut seen = Vec::new();
    /// trainer.fit_with(&Line, &batches(3)?, |step| {
    ///     // Reading a loss waits for the device.
    ///     if step.number() % 2 == 0 {
    ///         seen.push((step.number(), step.loss()?));
    ///     }
    ///     Ok(())
    /// })?;
    /// assert_eq!(seen.len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`fit`](Self::fit) and of `on_step`.
    pub fn fit_with<M: TrainingModule, Kind>(
        &self,
        module: &M,
        data: impl IntoData<M::Batch, Kind>,
        mut on_step: impl FnMut(&Step<'_>) -> Result<()>,
    ) -> Result<Fit<M::Model>> {
        self.fitted(module, &mut on_step, &mut *data.into_data(), None)
    }

    /// [`fit`](Self::fit), which validates on `validation` as the builder's settings say: at each epoch's end, unless told
    /// otherwise.
    ///
    /// ```
    /// # fn main() -> trainer::Result<()> {
    /// # use trainer::doc_example::{Line, batches};
    /// use trainer::Trainer;
    ///
    /// let trainer = Trainer::builder().accelerator("cpu").max_epochs(2).val_check_interval(0.5).build()?;
    /// let fit = trainer.fit_validated(&Line, &batches(4)?, &batches(2)?)?;
    /// assert!(fit.metrics.get("val_loss").is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`fit`](Self::fit); [`Error::Data`](crate::Error::Data) for validation data that can be gone through once only.
    pub fn fit_validated<M: TrainingModule, Kind, ValidationKind>(
        &self,
        module: &M,
        data: impl IntoData<M::Batch, Kind>,
        validation: impl IntoData<M::Batch, ValidationKind>,
    ) -> Result<Fit<M::Model>> {
        let mut on_step = |_: &Step<'_>| Ok(());
        let mut validation = validation.into_data();
        self.fitted(module, &mut on_step, &mut *data.into_data(), Some(&mut *validation))
    }

    fn fitted<M: TrainingModule>(
        &self,
        module: &M,
        on_step: &mut dyn FnMut(&Step<'_>) -> Result<()>,
        data: &mut dyn Data<M::Batch>,
        validation: Validation<'_, '_, M>,
    ) -> Result<Fit<M::Model>> {
        let (precision, accelerator) = (self.precision_name(), self.accelerator.as_str());
        let _span = info_span!("fit", precision, accelerator).entered();
        let fit = || Fitting::new(self, module, on_step)?.run(data, validation);
        multiplying(self.settings.steps.products(), fit)
    }

    /// Creates a model outside of training: on the device, in the precision's dtype (complex128 for complex parameters at
    /// 64-true), from the seed, the initial values or a resumed state.
    ///
    /// # Errors
    /// Those of `create`; a model without parameters; initial values that do not fit its parameters.
    pub fn init_module<T>(&self, create: impl FnOnce(VarBuilder) -> Result<T>) -> Result<(T, Parameters)> {
        let (module, parameters, weights) = self.create(&self.parameter_store()?, create)?;
        weights.iter().for_each(|notice| (self.settings.listener.0)(notice));
        Ok((module, parameters))
    }
}
