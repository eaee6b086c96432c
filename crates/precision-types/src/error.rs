//! The crate's one error type. Every message is a single line that says what was allowed.

use crate::{Accelerator, Precision, UnsupportedPrecision};

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong when a precision, an accelerator or a dtype is named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The value names no precision. Nothing is trimmed and case counts.
    #[error("unknown precision {got:?}: expected one of {}", allowed_precisions())]
    UnknownPrecision {
        /// The value as it was written.
        got: String,
    },
    /// The value names a precision that Lightning has and this workspace has not.
    #[error("precision {got:?} is not available here: expected one of {}", allowed_precisions())]
    UnavailablePrecision {
        /// The value as it was written.
        got: String,
    },
    /// The value names no accelerator.
    #[error("unknown accelerator {got:?}: expected one of {}", allowed_accelerators())]
    UnknownAccelerator {
        /// The value as it was written.
        got: String,
    },
    /// `"auto"` is a wish, not an accelerator: only the trainer, which can see the machine's devices, can grant it.
    #[error(
        "accelerator \"auto\" is chosen by the trainer, from the devices it finds: name one of {} here",
        allowed_accelerators()
    )]
    UnresolvedAccelerator,
    /// The precision exists but not on that accelerator.
    #[error(transparent)]
    Unsupported(#[from] UnsupportedPrecision),
    /// A tensor library's dtype that no [`DType`](crate::DType) stands for.
    #[error("dtype {got} is not one that parameters are trained in: expected one of f16, bf16, f32, f64")]
    UnsupportedDType {
        /// The dtype's name in the library it came from.
        got: &'static str,
    },
}

fn allowed_precisions() -> String {
    let canonical: Vec<String> = Precision::ALL.iter().map(|p| format!("\"{p}\"")).collect();
    format!("{}, or the legacy \"64\", \"32\", \"16\", \"bf16\", 64, 32, 16", canonical.join(", "))
}

fn allowed_accelerators() -> String {
    let names: Vec<String> = Accelerator::ALL.iter().map(|a| format!("\"{a}\"")).collect();
    names.join(", ")
}
