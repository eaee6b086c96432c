//! The crate's one error type.

/// A call that a kernel cannot run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two buffers that are read side by side differ in length.
    #[error("{op}: {argument} has {got} elements, expected {expected}")]
    LengthMismatch {
        /// The kernel.
        op: &'static str,
        /// Which buffer.
        argument: &'static str,
        /// The length that fits the other buffers.
        expected: usize,
        /// The length that came.
        got: usize,
    },
    /// A tensor or setting that a kernel on a device cannot take.
    #[error("{op}: {argument} is {got}, expected {expected}")]
    Operand {
        /// The kernel.
        op: &'static str,
        /// Which of its arguments.
        argument: &'static str,
        /// What it takes.
        expected: String,
        /// What came.
        got: String,
    },
    /// Gradients whose norm is infinite or NaN, where that is to be an error. Nothing was changed.
    #[error(
        "{op}: the gradients' norm is {norm}, with infinities or NaNs in those of the parameters {slots:?}"
    )]
    NonFinite {
        /// The kernel.
        op: &'static str,
        /// The norm of all gradients together, unscaled.
        norm: f64,
        /// The slots of those that are not finite; none where only their squares' sum is not.
        slots: Vec<usize>,
    },
    /// The device's driver, or candle on its behalf, reported a failure.
    #[error("{op}: the device reports: {message}")]
    Device {
        /// What was being done.
        op: String,
        /// The driver's words.
        message: String,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// [`LengthMismatch`](Self::LengthMismatch), unless the lengths are one.
    pub(crate) fn same_length(
        op: &'static str,
        argument: &'static str,
        expected: usize,
        got: usize,
    ) -> Result<()> {
        if expected == got { Ok(()) } else { Err(Self::LengthMismatch { op, argument, expected, got }) }
    }
}
