//! From a handful of settings to a [`Trainer`]: every setting is checked here, before any work starts.

use std::collections::HashMap;

use autocast::Autocast;
use candle_core::Tensor;
use grad_scaler::{DiagnosticsConfig, ScalerConfig};
use precision_types::{Accelerator, IntoPrecision, LegacyNotice, Precision, RequestedPrecision};

use crate::{AcceleratorChoice, Error, IntoAcceleratorChoice, Result, Trainer};

/// What to do when the accelerator does not support the precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnsupported {
    /// Refuse, naming the precisions that are supported.
    #[default]
    Error,
    /// Take the nearest supported precision; [`Trainer::notice`] says which.
    Fallback,
}

/// Something about the settings that the user should be shown.
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
}

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Legacy(notice) => notice.fmt(f),
            Self::Fallback { requested, used, accelerator } => {
                write!(f, "{requested} is not supported on the {accelerator}: training in {used}")
            }
        }
    }
}

/// The settings of a [`Trainer`].
///
/// No setting is needed: the default trains in 32-true on the best accelerator for 1,000 steps.
#[must_use = "call build() to get the trainer"]
pub struct TrainerBuilder {
    precision: precision_types::Result<RequestedPrecision>,
    accelerator: Result<AcceleratorChoice>,
    max_steps: usize,
    seed: u64,
    on_unsupported: OnUnsupported,
    loss_scaling: Option<ScalerConfig>,
    diagnostics: Option<DiagnosticsConfig>,
    initial_values: HashMap<String, Tensor>,
}

impl Default for TrainerBuilder {
    fn default() -> Self {
        Self {
            precision: Ok(Precision::F32True.into()),
            accelerator: Ok(AcceleratorChoice::Auto),
            max_steps: 1_000,
            seed: 0,
            on_unsupported: OnUnsupported::Error,
            loss_scaling: None,
            diagnostics: None,
            initial_values: HashMap::new(),
        }
    }
}

impl TrainerBuilder {
    /// The precision: `"16-mixed"`, `"bf16-mixed"`, `"16-true"`, `"bf16-true"`, `"32-true"`, `"64-true"`, a
    /// [`Precision`], or one of Lightning's historical names.
    pub fn precision(mut self, precision: impl IntoPrecision) -> Self {
        self.precision = precision.into_precision();
        self
    }

    /// Where to train: `"auto"`, `"cpu"`, `"gpu"`, or an [`Accelerator`].
    pub fn accelerator(mut self, accelerator: impl IntoAcceleratorChoice) -> Self {
        self.accelerator = accelerator.into_accelerator_choice();
        self
    }

    /// The number of batches to train on, at most.
    pub fn max_steps(mut self, max_steps: usize) -> Self {
        self.max_steps = max_steps;
        self
    }

    /// The seed of the parameters' initial values.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// What to do when the accelerator does not support the precision.
    pub fn on_unsupported(mut self, on_unsupported: OnUnsupported) -> Self {
        self.on_unsupported = on_unsupported;
        self
    }

    /// How the loss is scaled at the precisions that need it, `16-mixed` and `16-true`. The others ignore it.
    ///
    /// The default is [`ScalerConfig::recommended`], at `16-true` from 2^15: the gradient of an f16 loss is the scale
    /// itself, and 2^16 is more than f16 holds.
    pub fn loss_scaling(mut self, config: ScalerConfig) -> Self {
        self.loss_scaling = Some(config);
        self
    }

    /// Has the loss scaler remember what helps when a run goes bad; [`Step::diagnostics`](crate::Step::diagnostics) shows
    /// it, and a skipped step names the parameters that overflowed. On a GPU every step then waits for the device.
    pub fn diagnostics(mut self, config: DiagnosticsConfig) -> Self {
        self.diagnostics = Some(config);
        self
    }

    /// Initial values by parameter name, in any float dtype; parameters without one are drawn from the seed.
    pub fn initial_values(mut self, values: HashMap<String, Tensor>) -> Self {
        self.initial_values = values;
        self
    }

    /// Checks the settings and opens the device.
    ///
    /// # Errors
    /// An unknown precision or accelerator, an accelerator that is not available here, a precision that it does not
    /// support, or zero steps.
    pub fn build(self) -> Result<Trainer> {
        let RequestedPrecision { precision: requested, notice } = self.precision?;
        if self.max_steps == 0 {
            return Err(Error::Setting {
                setting: "max_steps",
                got: "0".to_string(),
                expected: "train for at least one step",
            });
        }
        let (accelerator, device) = self.accelerator?.open()?;
        let precision = match (requested.supported_on(accelerator), self.on_unsupported) {
            (Ok(()), _) => requested,
            (Err(unsupported), OnUnsupported::Error) => return Err(unsupported.into()),
            (Err(unsupported), OnUnsupported::Fallback) => {
                unsupported.alternatives.first().copied().ok_or(unsupported)?
            }
        };
        let notice = match (precision == requested, notice) {
            (false, _) => Some(Notice::Fallback { requested, used: precision, accelerator }),
            (true, notice) => notice.map(Notice::Legacy),
        };
        Ok(Trainer {
            precision,
            accelerator,
            device,
            region: Autocast::for_precision(precision, accelerator)?,
            notice,
            max_steps: self.max_steps,
            seed: self.seed,
            loss_scaling: self.loss_scaling.map_or_else(|| default_loss_scaling(precision), Ok)?,
            diagnostics: self.diagnostics,
            initial_values: self.initial_values,
        })
    }
}

fn default_loss_scaling(precision: Precision) -> grad_scaler::Result<ScalerConfig> {
    let config = ScalerConfig::recommended();
    if precision != Precision::F16True {
        return Ok(config);
    }
    let (growth, backoff) = (config.growth_factor(), config.backoff_factor());
    ScalerConfig::new(32_768., growth, backoff, config.growth_interval())?
        .with_min_scale(config.min_scale().unwrap_or(1.))
}
