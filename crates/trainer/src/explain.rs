//! What errors have to say: what was trained before them, whom they are of, and, where they are of candle's own operators, what
//! to write instead.

use crate::Error;

impl Error {
    /// What training gave before this error ended it; `None` where it had not begun.
    #[must_use]
    pub fn into_fit(self) -> Option<crate::Fit> {
        match self {
            Self::Stopped { fit, .. } => Some(*fit),
            _ => None,
        }
    }

    /// The same error, which says what to write instead where one of candle's own operators met two float dtypes.
    pub(crate) fn explained(self) -> Self {
        let candle = match &self {
            Self::Candle(error) | Self::Autocast(autocast::Error::Candle(error)) => error,
            _ => return self,
        };
        match innermost(candle) {
            candle_core::Error::DTypeMismatchBinaryOp { lhs, rhs, op }
                if lhs.is_float() && rhs.is_float() =>
            {
                Self::CandleOperator { op: (*op).to_string(), lhs: *lhs, rhs: *rhs }
            }
            _ => self,
        }
    }
}

/// candle's error without backtraces and other wrapping.
fn innermost(error: &candle_core::Error) -> &candle_core::Error {
    match error {
        candle_core::Error::WithBacktrace { inner, .. }
        | candle_core::Error::WithPath { inner, .. }
        | candle_core::Error::Context { inner, .. } => innermost(inner),
        error => error,
    }
}

/// What to write instead of candle's operator.
pub(crate) fn cure(op: &str) -> String {
    match op.trim_start_matches("broadcast_") {
        op @ ("add" | "sub" | "mul" | "div" | "maximum" | "minimum" | "matmul" | "cat" | "pow") => {
            format!("Write `ops::{op}(&a, &b)?` for it")
        }
        _ => "Use the op of autocast::ops, or cast one of the two".to_string(),
    }
}

pub(crate) fn in_parameters(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(" in {}", names.join(", ")) }
}

pub(crate) fn near(parameters: &[String]) -> String {
    if parameters.is_empty() { String::new() } else { format!(" (near {})", parameters.join(", ")) }
}
