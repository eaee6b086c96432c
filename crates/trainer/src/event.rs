//! What callbacks are told: where a fit is, how it began and ended, its numbers and its gradients.

use std::collections::HashMap;
use std::fmt;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use precision_types::{Accelerator, Precision};

use crate::update::Stepping;
use crate::{Notice, Parameters, Result};

/// Where a fit is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// Steps taken or skipped, those before a resume included.
    pub step: usize,
    /// Epochs that are complete.
    pub epoch: usize,
    /// Batches of the present epoch that were trained on.
    pub batch: usize,
}

/// Numbers by name, in the order in which they were logged. `"val_loss"` is the loss of a validation.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches};
/// use trainer::Trainer;
///
/// let trainer = Trainer::builder().accelerator("cpu").max_steps(1).build()?;
/// let fit = trainer.fit(&Line, &batches(1)?)?;
/// for (name, value) in trainer.test(&Line, &fit.model, &batches(2)?)?.iter() {
///     println!("{name} {value:.4}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(pub(crate) Vec<(String, f64)>);

impl Metrics {
    /// The number of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    /// Names and numbers.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// Names and numbers, as a [`Logger`](crate::Logger) takes them.
    #[must_use]
    pub fn as_slice(&self) -> &[(String, f64)] {
        &self.0
    }
}

impl FromIterator<(String, f64)> for Metrics {
    fn from_iter<I: IntoIterator<Item = (String, f64)>>(numbers: I) -> Self {
        Self(numbers.into_iter().collect())
    }
}

/// A fit that is about to take its first step.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FitStart<'a> {
    /// The precision in use.
    pub precision: Precision,
    /// The kind of device.
    pub accelerator: Accelerator,
    /// The device itself.
    pub device: &'a Device,
    /// The model's parameters and buffers.
    pub parameters: &'a Parameters,
    /// The most steps, if there is a limit.
    pub max_steps: Option<usize>,
    /// The most epochs, if there is a limit.
    pub max_epochs: Option<usize>,
    /// Steps of an epoch, where the data know their length.
    pub steps_per_epoch: Option<usize>,
    /// Where the fit goes on from; all zero for a new one.
    pub resumed_at: Position,
    /// The settings of the fit, by name: what loggers are given.
    pub settings: &'a [(String, String)],
    pub(crate) optimizers: Optimizers<'a>,
}

/// The optimizers of a fit.
#[derive(Clone, Copy)]
pub(crate) struct Optimizers<'a>(pub(crate) &'a [Stepping]);

impl fmt::Debug for Optimizers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|stepping| &stepping.name)).finish()
    }
}

impl FitStart<'_> {
    /// The state of each optimizer, as its `state_dict` gives it: copies on the CPU. Waits for the device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn optimizer_states(&self) -> Result<Vec<HashMap<String, Tensor>>> {
        self.optimizers.0.iter().map(|stepping| Ok(stepping.optimizer.state_dict()?)).collect()
    }
}

/// Why a fit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// All of `max_steps` were taken.
    MaxSteps,
    /// All of `max_epochs` are complete.
    MaxEpochs,
    /// Data that can be gone through once came to their end.
    DataEnd,
    /// `max_time` is over.
    MaxTime,
    /// A callback asked for it, for this reason.
    Stopped(String),
    /// The user interrupted the program.
    Interrupted,
    /// This error came up.
    Failed(String),
}

/// A fit that has ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FitEnd<'a> {
    /// Where it ended.
    pub position: Position,
    /// Why.
    pub reason: EndReason,
    /// Steps whose gradients were not finite and which changed nothing.
    pub skipped_steps: usize,
    /// The loss of every step of this fit.
    pub losses: &'a [f64],
    /// The last validation, empty where there was none.
    pub metrics: &'a Metrics,
    /// The trained parameters.
    pub parameters: &'a Parameters,
    /// What came up, such as a setting without an effect.
    pub notices: &'a [Notice],
}

/// The gradients of a step that is about to be taken, and the parameters before it.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches};
/// use trainer::{Callback, Gradients, Result, Trainer};
///
/// /// Prints the largest gradient of the weights in every tenth step.
/// struct Largest;
///
/// impl Callback for Largest {
///     fn name(&self) -> &'static str {
///         "largest"
///     }
///
///     fn wants_gradients(&self, step: usize) -> bool {
///         step % 10 == 0
///     }
///
///     fn on_gradients(&mut self, gradients: &Gradients<'_>) -> Result<()> {
///         if let Some(gradient) = gradients.get("weight")? {
///             println!("{}: {}", gradients.step(), gradient.abs()?.max_all()?);
///         }
///         Ok(())
///     }
/// }
///
/// let trainer = Trainer::builder().accelerator("cpu").max_steps(20).callback(Largest).build()?;
/// trainer.fit(&Line, &batches(3)?)?;
/// # Ok(())
/// # }
/// ```
pub struct Gradients<'a> {
    pub(crate) step: usize,
    pub(crate) optimizer: &'a str,
    pub(crate) parameters: &'a Parameters,
    /// The optimizer's.
    pub(crate) optimized: &'a [optim::Parameter],
    pub(crate) grads: &'a GradStore,
    pub(crate) unscale: &'a dyn Fn(&Tensor) -> Result<Tensor>,
}

impl Gradients<'_> {
    /// The number of the step, which counts from 1.
    #[must_use]
    pub fn step(&self) -> usize {
        self.step
    }

    /// The name of the optimizer whose step it is.
    #[must_use]
    pub fn optimizer(&self) -> &str {
        self.optimizer
    }

    /// The unscaled gradient of the parameter called `name`, in f32 (f64 where the gradient is f64); `None` where it has none, or
    /// is not one of the optimizer's.
    ///
    /// # Errors
    /// When the device fails.
    pub fn get(&self, name: &str) -> Result<Option<Tensor>> {
        let own =
            |var: &&candle_core::Var| self.optimized.iter().any(|parameter| parameter.var.id() == var.id());
        let grad = self.parameters.get(name).filter(own).and_then(|var| self.grads.get(var));
        grad.map(|grad| (self.unscale)(grad)).transpose()
    }

    /// The parameters, as they are before the step.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        self.parameters
    }
}
