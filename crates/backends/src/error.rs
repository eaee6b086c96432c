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
}

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
