//! The crate's one error type.

use candle_core::DType;

/// What can go wrong in a region, an op or a layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that is in neither PyTorch's lists nor the user's additions.
    #[error("unknown op '{op}'{}; add your own with OpTable::with_op", did_you_mean(.close))]
    UnknownOp {
        /// The name that was asked for.
        op: String,
        /// Known names that look like it, best first.
        close: Vec<String>,
    },
    /// An op that PyTorch forbids under autocast because its 16-bit gradients overflow.
    #[error("{op} is unsafe under autocast: use {instead}, or disable autocast around it")]
    Banned {
        /// The banned op.
        op: String,
        /// What to use instead.
        instead: String,
    },
    /// Inputs whose dtypes an op cannot combine.
    #[error("{op}: expected {} like its other input, got {}; cast one of them", .expected.as_str(), .got.as_str())]
    DTypeMismatch {
        /// The op.
        op: String,
        /// The dtype of the first input.
        expected: DType,
        /// The dtype that differs from it.
        got: DType,
    },
    /// A dtype that an op does not work in.
    #[error("{op}: dtype {} is not supported; accepted: {}", .dtype.as_str(), list(.accepted))]
    UnsupportedDType {
        /// The op.
        op: String,
        /// The dtype that came.
        dtype: DType,
        /// The dtypes that would have been accepted.
        accepted: Vec<DType>,
    },
    /// Inputs whose shapes do not fit the op or each other.
    #[error("{op}: expected {expected}, got {got}")]
    ShapeMismatch {
        /// The op.
        op: String,
        /// The shape that fits, in words or numbers.
        expected: String,
        /// The shape that came.
        got: String,
    },
    /// An argument that is not a tensor and is out of its range.
    #[error("{op}: {argument} is {got}; expected {expected}")]
    InvalidArgument {
        /// The op or layer.
        op: String,
        /// The argument's name.
        argument: String,
        /// The value that came.
        got: String,
        /// What would have been accepted.
        expected: String,
    },
    /// A precision that the accelerator does not run.
    #[error(transparent)]
    UnsupportedPrecision(#[from] precision_types::UnsupportedPrecision),
    /// A kernel refused.
    #[error(transparent)]
    Kernel(#[from] backends::Error),
    /// candle refused.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// A result with the crate's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A shape that does not fit `op`.
    pub(crate) fn shape(op: &str, expected: impl Into<String>, got: impl std::fmt::Debug) -> Self {
        Self::ShapeMismatch { op: op.into(), expected: expected.into(), got: format!("{got:?}") }
    }

    /// An argument out of range.
    pub(crate) fn argument(
        op: &str,
        argument: &str,
        got: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> Self {
        Self::InvalidArgument {
            op: op.into(),
            argument: argument.into(),
            got: got.to_string(),
            expected: expected.into(),
        }
    }

    /// A kernel that took an op's value and not its gradient.
    pub(crate) fn refused(op: &str) -> Self {
        Self::argument(op, "its gradient", "refused by the kernel", "taken as the value was")
    }

    /// A dtype that `op` has no arithmetic for.
    pub(crate) fn dtype(op: &str, dtype: DType, accepted: &[DType]) -> Self {
        Self::UnsupportedDType { op: op.into(), dtype, accepted: accepted.to_vec() }
    }
}

/// `?` in a function that returns candle's result, e.g. a `Module::forward`.
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(inner) => inner,
            other => candle_core::Error::wrap(other),
        }
    }
}

fn list(dtypes: &[DType]) -> String {
    dtypes.iter().map(DType::as_str).collect::<Vec<_>>().join(", ")
}

fn did_you_mean(close: &[String]) -> String {
    if close.is_empty() { String::new() } else { format!(" (did you mean {}?)", close.join(", ")) }
}
