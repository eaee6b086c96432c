//! Everything that can go wrong when a trainer is built or run.

use std::path::PathBuf;

use precision_types::{Accelerator, UnsupportedPrecision};

use crate::explain;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// What was wrong, and what to do about it.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches};
/// use trainer::{Error, Trainer};
///
/// let data = batches(3)?.into_iter().enumerate().map(|(at, batch)| match at {
///     2 => Err(Error::Other("the disk is gone".into())),
///     _ => Ok(batch),
/// });
/// let trainer = Trainer::builder().accelerator("cpu").build()?;
/// // What was trained before an error is in it, and can be gone on from.
/// let fit = trainer.fit(&Line, data).unwrap_err().into_fit().expect("two steps were taken");
/// assert_eq!((fit.losses.len(), fit.state()?.position.step), (2, 2));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The precision is none that exists.
    #[error(transparent)]
    Precision(#[from] precision_types::Error),

    /// The accelerator is none that exists.
    #[error("unknown accelerator {got:?}: expected one of \"auto\", \"cpu\", \"gpu\", \"tpu\"")]
    UnknownAccelerator {
        /// The name that was given.
        got: String,
    },

    /// The precision does not run on the accelerator.
    #[error(transparent)]
    Unsupported(#[from] UnsupportedPrecision),

    /// The accelerator exists, but not here.
    #[error("{reason}; {advice}")]
    Unavailable {
        /// The accelerator that was asked for.
        accelerator: Accelerator,
        /// Why it cannot be used.
        reason: String,
        /// What to do instead.
        advice: &'static str,
    },

    /// A setting of the builder is out of range.
    #[error("{setting} is {got}: {expected}")]
    Setting {
        /// The builder's method.
        setting: &'static str,
        /// The value that it was given.
        got: String,
        /// The values that it takes.
        expected: &'static str,
    },

    /// The model asked the `VarBuilder` for no parameter.
    #[error("build created no parameter: take the model's weights from the VarBuilder that it is given")]
    NoParameters,

    /// Initial values for parameters that the model does not have.
    #[error("{}", explain::unused_initial_values(.names))]
    UnusedInitialValues {
        /// The names without a parameter.
        names: Vec<String>,
    },

    /// Parameters that the initial values have no value for.
    #[error("{}", explain::missing_initial_values(.names))]
    MissingInitialValues {
        /// The parameters' names.
        names: Vec<String>,
    },

    /// There were no data.
    #[error("{what} got no batch: check that the data are not empty or used up")]
    NoData {
        /// What was called.
        what: &'static str,
    },

    /// A dataset could not give an item.
    #[error("item {index} of the dataset: {source}")]
    Item {
        /// The item's index in the dataset.
        index: usize,
        /// What the dataset said.
        source: Box<Error>,
    },

    /// The items of a batch could not be put together.
    #[error(
        "the items {indices:?} of the dataset do not make a batch: {source}; give every item the same shapes, or say how in \
         `Loader::with_collate`"
    )]
    Collate {
        /// The items' indices in the dataset, in their order in the batch.
        indices: Vec<usize>,
        /// What does not go together.
        source: Box<Error>,
    },

    /// The dataset's or the collating code panicked.
    #[error("loading the items {indices:?} of the dataset panicked: {message}")]
    LoaderPanicked {
        /// The indices that were being loaded: of one item, or of a batch that was being put together.
        indices: Vec<usize>,
        /// What the panic said.
        message: String,
    },

    /// A metric that a callback watches is not among those of a validation.
    #[error("no validation gives {monitor:?}; it gives {known}")]
    NoSuchMetric {
        /// The metric that is watched.
        monitor: String,
        /// Those that there are.
        known: String,
    },

    /// A checkpoint's state of a callback that is not of this callback.
    #[error("{callback} cannot go on from its state in the checkpoint: {what}")]
    CallbackState {
        /// The callback's name.
        callback: &'static str,
        /// What is wrong with it.
        what: String,
    },

    /// A file that a logger is to go on with, and that it did not write.
    #[error("{}: not a log that can be gone on with: {what}; move it away or log to another file", path.display())]
    NotALog {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },

    /// Said by `training_step` or `validation_step`: this batch has no loss. No step is taken, and the fit goes on.
    #[error("the batch has no loss")]
    NoLoss,

    /// No batch had a loss.
    #[error("training_step gave no loss for any of the {batches} batches, so that nothing was trained")]
    NothingTrained {
        /// How many there were.
        batches: usize,
    },

    /// A step's gradients were not finite, and the trainer was told to stop.
    #[error("{}", explain::non_finite(*.loss, .parameters))]
    NonFinite {
        /// The step's loss.
        loss: f64,
        /// The parameters whose gradients are not finite, where that is known.
        parameters: Vec<String>,
    },

    /// A fit ended before its time, after `step` batches. What was trained is in `fit`.
    #[error("after {step} batches: {source}")]
    Stopped {
        /// The batches that were trained on.
        step: usize,
        /// What training gave until then.
        fit: Box<crate::Fit>,
        /// Why it ended.
        source: Box<Error>,
    },

    /// One of candle's own operators met two dtypes.
    #[error("{}", explain::candle_operator(.op, *.lhs, *.rhs))]
    CandleOperator {
        /// candle's name of the operator.
        op: String,
        /// The dtype on its left.
        lhs: candle_core::DType,
        /// The dtype on its right.
        rhs: candle_core::DType,
    },

    /// A file that is damaged, or no state of a run where one is read.
    #[error("{}: cannot be loaded: {what}", path.display())]
    NotAState {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },

    /// A metric to be watched that a validation does not give.
    #[error("no metric is called '{name}': a validation gives {}", .known.join(", "))]
    Monitor {
        /// The name that was asked for.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },

    /// A state that does not fit the model.
    #[error("the state has {what}, which does not fit: resume with the module that it was saved from")]
    StateMismatch {
        /// What does not fit.
        what: String,
    },

    /// Parameters that the first step's loss does not depend on, or whose gradients a kernel of candle's dropped.
    #[error("{}", explain::missing_gradient(.names, .norms))]
    MissingGradient {
        /// The parameters' names.
        names: Vec<String>,
        /// Norms among their layers, whose kernels in candle have no backward, and the constructor in `autocast::nn` that gives
        /// one that has.
        norms: Vec<(String, &'static str)>,
    },

    /// A loss or metric that a step gave and that is not one float.
    #[error("{}", explain::not_a_number(.name, .shape, *.dtype))]
    NotOneNumber {
        /// `"loss"`, or the metric's name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Its dtype.
        dtype: candle_core::DType,
    },

    /// Two optimizers or callbacks of one name.
    #[error("two {what} are called '{name}': give each a name of its own, under which its state is saved")]
    DuplicateName {
        /// What they are.
        what: &'static str,
        /// Their name.
        name: String,
    },

    /// [`TrainingModule::predict_step`](crate::TrainingModule::predict_step) was not written.
    #[error("the module has no predict_step: write it, or use `Trainer::infer` with a closure")]
    NoPredictStep,

    /// Data of another kind than a setting needs.
    #[error("{setting} needs data that {needs}: pass `&batches`, a loader or another DataSource")]
    Data {
        /// The builder's method.
        setting: &'static str,
        /// What the data lack.
        needs: &'static str,
    },

    /// The first step came out differently when it was computed again, and `deterministic` does not allow that.
    #[error("{}", explain::not_deterministic(.names))]
    NotDeterministic {
        /// The parameters whose gradients differ.
        names: Vec<String>,
    },

    /// No loss of a fit was a number.
    #[error("{}", explain::never_finite(*.steps))]
    NeverFinite {
        /// The steps that were taken.
        steps: usize,
    },

    /// The first NaN of a fit with `detect_anomaly`.
    #[error("{anomaly}{}", explain::near(.parameters))]
    Anomaly {
        /// Which op gave it, in which pass.
        anomaly: autocast::Anomaly,
        /// The names of the parameters that are the fewest ops before it.
        parameters: Vec<String>,
    },

    /// A fit of the same trainer is running, and has its callbacks and loggers.
    #[error(
        "a fit of this trainer is running and has its callbacks and loggers: build another trainer for this one"
    )]
    Busy,

    /// A file could not be written or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },

    /// An error of an op or layer.
    #[error(transparent)]
    Autocast(#[from] autocast::Error),

    /// An error of the loss scaler.
    #[error(transparent)]
    GradScaler(#[from] grad_scaler::Error),

    /// An error of an optimizer.
    #[error(transparent)]
    Optim(#[from] optim::Error),

    /// An error of candle.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),

    /// An error of the user's own code, in `training_step` or a step callback.
    #[error(transparent)]
    Other(#[from] Box<dyn std::error::Error + Send + Sync>),
}
