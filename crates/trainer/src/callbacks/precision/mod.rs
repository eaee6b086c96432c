//! Watches how a model's gradients and updates fit the precision, layer by layer. What is counted is in [`measure`].

mod measure;
mod warning;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use precision_types::FloatFormat;

use super::{checked_every, not_a_state};
use crate::{Callback, Control, Error, FitStart, Gradients, Parameters, Result, Step};
use measure::{Change, Counts};

pub use measure::LayerPrecision;
pub use warning::PrecisionWarning;

/// When a [`PrecisionMonitor`] looks, and what it warns of.
#[derive(Clone, Debug, PartialEq)]
pub struct PrecisionMonitorConfig {
    /// It looks every this many steps: 100 by default, at least 1.
    pub every_n_steps: usize,
    /// The share of a layer's gradients that may underflow, or overflow, before it warns: 0.1 by default, from 0 to 1.
    pub tolerated_share: f64,
}

impl Default for PrecisionMonitorConfig {
    fn default() -> Self {
        Self { every_n_steps: 100, tolerated_share: 0.1 }
    }
}

/// Logs, for every layer, the share of its gradients that underflows or overflows the format they pass through
/// (`grad_underflow/<layer>`, `grad_overflow/<layer>`, and `grad_zero/<layer>`), and how large a step's change is beside the
/// weights (`update_to_weight/<layer>`). Warns of layers by name, once each.
///
/// The format is the precision's compute dtype, and the gradients count as the loss scale makes them. A change below half the
/// epsilon of the optimizer's arithmetic (f32, or f64 at 64-true) is lost, which it warns of. Weights that are stored in 16 bits
/// show their changes rounded; what the optimizer keeps beside them is not lost.
///
/// The steps that it looks at copy all gradients and weights to the host. The first is the second step at the earliest, since a
/// loss scale is known after a step.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches};
/// use trainer::Trainer;
/// use trainer::callbacks::{PrecisionMonitor, PrecisionMonitorConfig};
///
/// let config = PrecisionMonitorConfig { every_n_steps: 2, ..Default::default() };
/// let monitor = PrecisionMonitor::new(config)?.on_warning(|warning| println!("{warning}"));
/// let trainer = Trainer::builder().precision("bf16-mixed").accelerator("cpu").max_steps(6).callback(monitor);
/// trainer.build()?.fit(&Line, &batches(3)?)?;
/// # Ok(())
/// # }
/// ```
pub struct PrecisionMonitor {
    config: PrecisionMonitorConfig,
    listener: Arc<dyn Fn(&PrecisionWarning) + Send + Sync>,
    format: FloatFormat,
    scales: Scales,
    /// The loss scale of the step that comes.
    scale: Option<f64>,
    seen: Vec<Layer>,
    /// Warnings that were given, by kind and layer.
    warned: BTreeSet<String>,
}

/// Whether the loss scale has to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scales {
    Always1,
    Read,
}

/// A layer between its gradients and its step.
struct Layer {
    precision: LayerPrecision,
    before: Vec<(String, Vec<f64>)>,
    arithmetic: FloatFormat,
    gradients: Gradient,
}

/// Whether a step can be taken with a layer's gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gradient {
    Finite,
    NotFinite,
    /// Nothing is to change, so that nothing can be lost.
    AllZero,
}

impl fmt::Debug for PrecisionMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrecisionMonitor").field("config", &self.config).finish_non_exhaustive()
    }
}

impl PrecisionMonitor {
    /// Watches as `config` says, and warns on the standard error.
    ///
    /// # Errors
    /// A setting out of its range.
    pub fn new(config: PrecisionMonitorConfig) -> Result<Self> {
        checked_every(config.every_n_steps)?;
        if !(0. ..=1.).contains(&config.tolerated_share) {
            return Err(Error::Setting {
                setting: "tolerated_share",
                got: config.tolerated_share.to_string(),
                expected: "a share from 0 to 1",
            });
        }
        Ok(Self {
            config,
            listener: Arc::new(|warning| eprintln!("warning: {warning}")),
            format: FloatFormat::F32,
            scales: Scales::Always1,
            scale: None,
            seen: Vec::new(),
            warned: BTreeSet::new(),
        })
    }

    /// Has `listener` told of warnings instead.
    #[must_use]
    pub fn on_warning(mut self, listener: impl Fn(&PrecisionWarning) + Send + Sync + 'static) -> Self {
        self.listener = Arc::new(listener);
        self
    }

    fn log(&mut self, step: &Step<'_>, layer: &LayerPrecision, arithmetic: FloatFormat) {
        let name = &layer.layer;
        step.log(format!("grad_zero/{name}"), layer.zeros);
        step.log(format!("grad_underflow/{name}"), layer.underflow);
        step.log(format!("grad_overflow/{name}"), layer.overflow);
        if let Some(ratio) = layer.update_to_weight {
            step.log(format!("update_to_weight/{name}"), ratio);
        }
        for warning in warning::of(layer, self.format, arithmetic, self.config.tolerated_share) {
            if self.warned.insert(warning.key()) {
                (self.listener)(&warning);
            }
        }
    }
}

impl Callback for PrecisionMonitor {
    fn name(&self) -> &'static str {
        "precision_monitor"
    }

    fn on_fit_start(&mut self, fit: &FitStart<'_>) -> Result<()> {
        self.format = fit.precision.compute_dtype().format();
        (self.scales, self.scale) = match fit.precision.needs_loss_scaling() {
            true => (Scales::Read, None),
            false => (Scales::Always1, Some(1.)),
        };
        self.seen.clear();
        if fit.resumed_at.step == 0 {
            self.warned.clear();
        }
        Ok(())
    }

    fn wants_gradients(&self, step: usize) -> bool {
        step > 1 && step.is_multiple_of(self.config.every_n_steps) && self.scale.is_some()
    }

    fn on_gradients(&mut self, gradients: &Gradients<'_>) -> Result<()> {
        let scale = self.scale.unwrap_or(1.);
        for (layer, parameters) in by_layer(gradients.parameters()) {
            let (mut counts, mut before) = (Counts::default(), Vec::new());
            let mut arithmetic = FloatFormat::F32;
            for (name, value) in parameters {
                let Some(gradient) = gradients.get(name)? else { continue };
                counts.add(numbers(&gradient)?, scale, self.format);
                if value.dtype() == DType::F64 {
                    arithmetic = FloatFormat::F64;
                }
                before.push((name.to_string(), numbers(value)?));
            }
            if !before.is_empty() {
                let precision = counts.to_layer(layer);
                let gradients = match counts.all_finite() {
                    false => Gradient::NotFinite,
                    true if precision.zeros == 1. => Gradient::AllZero,
                    true => Gradient::Finite,
                };
                self.seen.push(Layer { precision, before, arithmetic, gradients });
            }
        }
        Ok(())
    }

    fn on_train_step(&mut self, step: &Step<'_>) -> Result<Control> {
        let seen = std::mem::take(&mut self.seen);
        let is_taken = !seen.iter().any(|layer| layer.gradients == Gradient::NotFinite);
        let moves = is_taken && !seen.is_empty() && step.learning_rates().any(|(_, rate)| rate != 0.);
        for mut layer in seen {
            let mut change = Change::default();
            for (name, before) in &layer.before {
                if let Some(after) = step.parameters().get(name) {
                    change.add(before, &numbers(after)?);
                }
            }
            if moves && layer.gradients == Gradient::Finite {
                layer.precision.update_to_weight = change.ratio();
            }
            self.log(step, &layer.precision, layer.arithmetic);
        }
        let next = step.position().step + 1;
        if self.scales == Scales::Read && next.is_multiple_of(self.config.every_n_steps) {
            self.scale = Some(f64::from(step.loss_scale()));
        }
        Ok(Control::Continue)
    }

    fn state(&self) -> serde_json::Value {
        serde_json::json!({ "warned": self.warned })
    }

    fn load_state(&mut self, state: &serde_json::Value) -> Result<()> {
        let warned = state.get("warned").cloned().unwrap_or_default();
        self.warned = serde_json::from_value(warned).map_err(|error| not_a_state(self.name(), error))?;
        Ok(())
    }
}

/// Parameters under the names of their layers: their own without the last part.
fn by_layer(parameters: &Parameters) -> BTreeMap<&str, Vec<(&str, &Tensor)>> {
    let mut layers: BTreeMap<&str, Vec<(&str, &Tensor)>> = BTreeMap::new();
    for (name, var) in parameters.iter() {
        let layer = name.rfind('.').map_or(name, |dot| &name[..dot]);
        layers.entry(layer).or_default().push((name, var.as_tensor()));
    }
    layers
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    let tensor = tensor.to_device(&Device::Cpu)?.flatten_all()?;
    Ok(tensor.to_dtype(DType::F64)?.to_vec1()?)
}
