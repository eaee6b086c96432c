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
    /// An argument that the op cannot take: a tensor of the wrong dtype or shape, an option out of its range.
    #[error("{op}: {argument} is {got}; expected {expected}")]
    InvalidArgument {
        /// The op or layer.
        op: String,
        /// The argument's name.
        argument: String,
        /// What would have been accepted, and what to do where that is not plain.
        expected: String,
        /// What came: a value, or `of shape [2, 3]`, or a dtype's name.
        got: String,
    },
    /// The first NaN, where [`detect_anomaly`](crate::detect_anomaly) looks for it.
    #[error("{0}")]
    Anomaly(crate::Anomaly),
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
    /// An `argument` of `op` that it cannot take.
    pub(crate) fn argument(
        op: &str,
        argument: &str,
        got: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> Self {
        Self::InvalidArgument {
            op: op.into(),
            argument: argument.into(),
            expected: expected.into(),
            got: got.to_string(),
        }
    }

    /// A tensor whose shape does not fit.
    pub(crate) fn shape(op: &str, argument: &str, got: &[usize], expected: impl Into<String>) -> Self {
        Self::argument(op, argument, format!("of shape {got:?}"), expected)
    }

    /// A tensor of a dtype that `op` has no arithmetic for.
    pub(crate) fn dtype(op: &str, argument: &str, got: DType, accepted: &[DType]) -> Self {
        let names: Vec<_> = accepted.iter().map(DType::as_str).collect();
        let expected = match names.as_slice() {
            [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            names => names.join(""),
        };
        Self::argument(op, argument, got.as_str(), format!("{expected}; cast it"))
    }

    /// Two tensors, each with its name, whose dtypes `op` cannot combine.
    pub(crate) fn dtypes_differ(op: &str, got: (&str, DType), other: (&str, DType)) -> Self {
        let expected = format!("{}, as {} is; cast one of them", other.1.as_str(), other.0);
        Self::argument(op, got.0, got.1.as_str(), expected)
    }

    /// A kernel that took an op's value and not its gradient.
    pub(crate) fn refused(op: &str) -> Self {
        Self::argument(op, "its gradient", "refused by the kernel", "taken as the value was")
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

fn did_you_mean(close: &[String]) -> String {
    if close.is_empty() { String::new() } else { format!(" (did you mean {}?)", close.join(", ")) }
}
