//! Everything that can go wrong when a trainer is built or run.

use std::path::PathBuf;

use precision_types::{Accelerator, UnsupportedPrecision};

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// What was wrong, and what to do about it.
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
    #[error(
        "configure_model created no parameter: take the model's weights from the VarBuilder that it is given"
    )]
    NoParameters,

    /// Initial values for parameters that the model does not have.
    #[error("initial values that no parameter of the model has the name of: {}", .names.join(", "))]
    UnusedInitialValues {
        /// The names without a parameter.
        names: Vec<String>,
    },

    /// Parameters that the first step's loss does not depend on.
    #[error(
        "no gradient at the first step for {}: the loss does not depend on them, or an op without a backward is in \
         between; use them, or exclude them in `is_trained`",
        .names.join(", ")
    )]
    MissingGradient {
        /// The parameters' names.
        names: Vec<String>,
    },

    /// The loss that `training_step` gave is not one number.
    #[error("training_step returned a loss of shape {shape:?}: it must be one number; take its mean or sum")]
    LossShape {
        /// The shape of the loss.
        shape: Vec<usize>,
    },

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
