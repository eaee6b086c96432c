//! What follows a fit: callbacks, which see it and may stop it, and loggers, which take its numbers. Both are traits here;
//! the loop calls them.

use crate::{FitEnd, FitStart, Gradients, Metrics, Position, Result, Step};

/// What a callback asks of the loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Nothing: the fit goes on.
    Continue,
    /// An end, in good order: a last checkpoint is written, and [`FitEnd::reason`] has the reason.
    Stop {
        /// Why, in words for the user.
        reason: String,
    },
}

/// Something that follows a fit. Every method has a default that does nothing.
///
/// An error of any method ends the fit with [`Error::Stopped`](crate::Error::Stopped), and what was trained is kept.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches};
/// use trainer::{Callback, Control, EndReason, Step, Trainer};
///
/// /// Ends a fit whose loss is small.
/// struct GoodEnough(f64);
///
/// impl Callback for GoodEnough {
///     fn name(&self) -> &'static str {
///         "good_enough"
///     }
///
///     fn on_train_step(&mut self, step: &Step<'_>) -> trainer::Result<Control> {
///         let loss = step.loss()?;
///         Ok(match loss < self.0 {
///             true => Control::Stop { reason: "good enough".to_string() },
///             false => Control::Continue,
///         })
///     }
/// }
///
/// let trainer = Trainer::builder().accelerator("cpu").max_steps(500).callback(GoodEnough(0.1)).build()?;
/// let fit = trainer.fit(&Line, &batches(3)?)?;
/// assert_eq!(fit.reason, EndReason::Stopped("good enough".to_string()));
/// # Ok(())
/// # }
/// ```
pub trait Callback: Send {
    /// The key of its state in a checkpoint: no two callbacks of a trainer may share it.
    fn name(&self) -> &'static str;

    /// Before the first step, once the model exists and a resumed state is loaded.
    ///
    /// # Errors
    /// Whatever keeps the callback from its work.
    fn on_fit_start(&mut self, _fit: &FitStart<'_>) -> Result<()> {
        Ok(())
    }

    /// After each step of an optimizer, which is one for every accumulated batch.
    ///
    /// # Errors
    /// Whatever keeps the callback from its work.
    fn on_train_step(&mut self, _step: &Step<'_>) -> Result<Control> {
        Ok(Control::Continue)
    }

    /// Before a step for which [`wants_gradients`](Self::wants_gradients) says so.
    ///
    /// # Errors
    /// Whatever keeps the callback from its work.
    fn on_gradients(&mut self, _gradients: &Gradients<'_>) -> Result<()> {
        Ok(())
    }

    /// Whether [`on_gradients`](Self::on_gradients) is to be called before the step of this number, which counts from 1.
    fn wants_gradients(&self, _step: usize) -> bool {
        false
    }

    /// After a validation.
    ///
    /// # Errors
    /// Whatever keeps the callback from its work.
    fn on_validation_end(&mut self, _metrics: &Metrics, _at: &Position) -> Result<Control> {
        Ok(Control::Continue)
    }

    /// At the end, also after an error or an interruption.
    ///
    /// # Errors
    /// Whatever keeps the callback from its work.
    fn on_fit_end(&mut self, _end: &FitEnd<'_>) -> Result<()> {
        Ok(())
    }

    /// What the callback has to remember in a checkpoint.
    fn state(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Takes back what [`state`](Self::state) gave, before [`on_fit_start`](Self::on_fit_start).
    ///
    /// # Errors
    /// Where it is no state of this callback.
    fn load_state(&mut self, _state: &serde_json::Value) -> Result<()> {
        Ok(())
    }
}

/// Where numbers go.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches};
/// use std::sync::{Arc, Mutex};
/// use trainer::{Logger, Trainer};
///
/// /// Keeps what is logged.
/// #[derive(Clone, Default)]
/// struct Kept(Arc<Mutex<Vec<(usize, String)>>>);
///
/// impl Logger for Kept {
///     fn log_hyperparameters(&mut self, _: &[(String, String)]) -> trainer::Result<()> {
///         Ok(())
///     }
///
///     fn log_metrics(&mut self, step: usize, metrics: &[(String, f64)]) -> trainer::Result<()> {
///         self.0.lock().unwrap().extend(metrics.iter().map(|(name, _)| (step, name.clone())));
///         Ok(())
///     }
///
///     fn flush(&mut self) -> trainer::Result<()> {
///         Ok(())
///     }
/// }
///
/// let kept = Kept::default();
/// let trainer = Trainer::builder().accelerator("cpu").max_steps(4).log_every_n_steps(2).logger(kept.clone());
/// trainer.build()?.fit(&Line, &batches(3)?)?;
/// assert!(kept.0.lock().unwrap().contains(&(4, "train_loss".to_string())));
/// # Ok(())
/// # }
/// ```
pub trait Logger: Send {
    /// A fit begins after `step`: 0, or where the state that it resumes was taken. Nothing was logged in it yet.
    ///
    /// # Errors
    /// Where what an earlier fit logged cannot be gone on with.
    fn start(&mut self, _step: usize) -> Result<()> {
        Ok(())
    }

    /// The settings of a fit, once, before its first step.
    ///
    /// # Errors
    /// Where they cannot be written.
    fn log_hyperparameters(&mut self, values: &[(String, String)]) -> Result<()>;

    /// Numbers by name at a step. Steps never go down in a fit; the same step may come more than once, with other names.
    ///
    /// # Errors
    /// Where they cannot be written.
    fn log_metrics(&mut self, step: usize, metrics: &[(String, f64)]) -> Result<()>;

    /// Makes what was logged outlive the process: called at every checkpoint and at the end.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn flush(&mut self) -> Result<()>;
}
