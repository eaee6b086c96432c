//! What errors have to say: what was trained before them, whom they are of, and, where they are of candle's own operators, what
//! to write instead.

use candle_core::DType;

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

pub(crate) fn unused_initial_values(names: &[String]) -> String {
    let names = names.join(", ");
    format!(
        "initial values that no parameter of the model has the name of: {names}; leave them out, or load with \
         `initial_values_with(.., Strictness::Lenient)`"
    )
}

pub(crate) fn missing_initial_values(names: &[String]) -> String {
    let names = names.join(", ");
    format!(
        "no initial value for {names}; add them, or have them drawn with `initial_values_with(.., Strictness::Lenient)`"
    )
}

pub(crate) fn missing_gradient(names: &[String], norms: &[(String, &'static str)]) -> String {
    let names = names.join(", ");
    if norms.is_empty() {
        return format!(
            "no gradient at the first step for {names}: the loss does not depend on them, or a kernel of candle's without a \
             backward is in between (its softmax_last_dim, sdpa and rotary embeddings; write `ops::softmax`, \
             `ops::scaled_dot_product_attention` and `ops::rope` of autocast); use them, or exclude them in `is_trained`"
        );
    }
    let layers = norms.iter().map(|(layer, instead)| format!("{layer} with `autocast::nn::{instead}`"));
    let layers = layers.collect::<Vec<_>>().join(", ");
    format!(
        "no gradient at the first step for {names}: candle's kernels of norms drop the gradients of their own parameters and of \
         all that is before them; build {layers}, or exclude what is not trained in `is_trained`"
    )
}

pub(crate) fn not_deterministic(names: &[String]) -> String {
    let names = names.join(", ");
    format!(
        "computed again, the first step gave other gradients for {names}: take what is random from the trainer's seed \
         (nn::Dropout does), and leave nothing to the order of threads"
    )
}

pub(crate) fn never_finite(steps: usize) -> String {
    format!(
        "the loss was not finite in any of the first {steps} steps: look at the data and the initial weights, lower the \
         learning rate, or find the op with `detect_anomaly`"
    )
}

pub(crate) fn non_finite(loss: f64, parameters: &[String]) -> String {
    let within = if parameters.is_empty() { String::new() } else { format!(" in {}", parameters.join(", ")) };
    format!(
        "the gradients are not finite (loss {loss}){within}; no step was taken: look at this batch, lower the learning \
         rate or clip, or go on with `on_non_finite(OnNonFinite::Skip)`"
    )
}

pub(crate) fn not_a_number(name: &str, shape: &[usize], dtype: DType) -> String {
    let dtype = dtype.as_str();
    format!(
        "a step gave a {name} of shape {shape:?} and dtype {dtype}: it must be one float; take its mean or sum"
    )
}

pub(crate) fn candle_operator(op: &str, lhs: DType, rhs: DType) -> String {
    let (lhs, rhs) = (lhs.as_str(), rhs.as_str());
    let cure = match op.trim_start_matches("broadcast_") {
        op @ ("add" | "sub" | "mul" | "div" | "maximum" | "minimum" | "matmul" | "cat" | "pow") => {
            format!("Write `ops::{op}(&a, &b)?` for it")
        }
        _ => "Use the op of autocast::ops, or cast one of the two".to_string(),
    };
    format!(
        "candle's own `{op}` met {lhs} and {rhs}: candle's operators do not promote as those of autocast::ops do. {cure} \
         (README, \"Porting a model\")"
    )
}

pub(crate) fn near(parameters: &[String]) -> String {
    if parameters.is_empty() { String::new() } else { format!(" (near {})", parameters.join(", ")) }
}
