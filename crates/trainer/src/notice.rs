//! What a user should be told about the settings or about the first step, and is no error.

use std::fmt;
use std::sync::Arc;

use candle_core::DType;
use precision_types::{Accelerator, LegacyNotice, Precision};

/// Something about the settings or the model that the user should be shown.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches};
/// use std::sync::{Arc, Mutex};
/// use trainer::{Notice, Trainer};
///
/// let told = Arc::new(Mutex::new(Vec::new()));
/// let listener = told.clone();
/// let trainer = Trainer::builder()
///     .accelerator("cpu")
///     .max_steps(1)
///     .matmul_precision("high")
///     .on_notice(move |notice| listener.lock().unwrap().push(notice.clone()));
/// trainer.build()?.fit(&Line, &batches(1)?)?;
/// assert!(matches!(told.lock().unwrap()[0], Notice::NoEffect { setting: "matmul_precision", .. }));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The precision was given by a historical name.
    Legacy(LegacyNotice),
    /// Another precision than the one asked for is used.
    Fallback {
        /// The precision that was asked for.
        requested: Precision,
        /// The precision that is used.
        used: Precision,
        /// Where it runs.
        accelerator: Accelerator,
    },
    /// A setting of the builder that changes nothing here.
    NoEffect {
        /// The builder's method.
        setting: &'static str,
        /// Why it changes nothing.
        why: String,
    },
    /// At a mixed precision, no op of the first step ran in 16 bits.
    NothingInFastDtype {
        /// The precision.
        precision: Precision,
    },
    /// The CPU has no fast product of 16-bit matrices, so that 16 bits save memory and no time.
    NoFastProduct {
        /// The precision.
        precision: Precision,
    },
    /// At a mixed precision, the loss came out in 16 bits: it was computed by candle's own ops.
    NarrowLoss {
        /// The loss's dtype.
        dtype: DType,
    },
    /// Parameters that the optimizer was not given, so that they stay as they are.
    NotOptimized {
        /// Their names.
        names: Vec<String>,
    },
    /// Initial values that were loaded leniently and did not fit the model in everything.
    Weights {
        /// Parameters without a value, which were drawn from the seed.
        missing: Vec<String>,
        /// Values without a parameter.
        unused: Vec<String>,
    },
    /// Passes that [`CudaGraph`](crate::CudaGraph) was to record and that go on as without it.
    NotRecorded {
        /// What stands in the way.
        why: String,
    },
    /// What had to be adapted when a state was resumed.
    Resumed {
        /// One line for each difference.
        differences: Vec<String>,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Legacy(notice) => notice.fmt(f),
            Self::Fallback { requested, used, accelerator } => {
                write!(f, "{requested} is not supported on the {accelerator}: training in {used}")
            }
            Self::NoEffect { setting, why } => write!(f, "{setting} has no effect: {why}"),
            Self::NothingInFastDtype { precision } => write!(
                f,
                "no op of the first step followed {precision}: candle's own layers and operators do not. Build the model \
                 from autocast::nn and autocast::ops, give it its parameters with parameters_in_compute_dtype(), or train at a \
                 -true precision"
            ),
            Self::NoFastProduct { precision } => write!(
                f,
                "this CPU has no fast 16-bit product: {precision} is computed in f32 and rounded, which is right, takes less \
                 memory and no less time than 32-true"
            ),
            Self::NarrowLoss { dtype } => write!(
                f,
                "the loss is {}: candle's own losses compute in the 16 bits that they are given. Use a loss of \
                 autocast::ops, which computes in f32",
                dtype.as_str()
            ),
            Self::NotOptimized { names } => write!(
                f,
                "the optimizer was not given {}: it stays as it is. Pass it on in configure_optimizers, or exclude it in \
                 is_trained",
                names.join(", ")
            ),
            Self::Weights { missing, unused } => {
                let list = |names: &[String]| if names.is_empty() { "none".into() } else { names.join(", ") };
                write!(f, "initial values: missing {}; unused {}", list(missing), list(unused))
            }
            Self::NotRecorded { why } => {
                write!(
                    f,
                    "cuda_graph: not every pass is recorded, which costs its speed and nothing else: {why}"
                )
            }
            Self::Resumed { differences } => {
                write!(f, "resumed with differences: {}", differences.join("; "))
            }
        }
    }
}

/// Who is told of notices that come up in a fit.
#[derive(Clone)]
pub(crate) struct Listener(pub(crate) Arc<dyn Fn(&Notice) + Send + Sync>);

impl Default for Listener {
    fn default() -> Self {
        Self(Arc::new(|notice| eprintln!("warning: {notice}")))
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}
