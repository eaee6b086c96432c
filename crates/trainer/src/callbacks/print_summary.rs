//! Prints the model's summary when a fit starts.

use crate::{Callback, FitStart, ModelSummary, Result};

/// Prints a [`ModelSummary`] to the standard error when a fit starts.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches};
/// use trainer::Trainer;
/// use trainer::callbacks::PrintModelSummary;
///
/// let trainer = Trainer::builder().accelerator("cpu").max_steps(1).callback(PrintModelSummary::default());
/// trainer.build()?.fit(&Line, &batches(1)?)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct PrintModelSummary {
    depth: usize,
}

impl Default for PrintModelSummary {
    fn default() -> Self {
        Self { depth: 2 }
    }
}

impl PrintModelSummary {
    /// Goes `depth` names deep, as [`ModelSummary::with_depth`] does.
    #[must_use]
    pub fn with_depth(depth: usize) -> Self {
        Self { depth }
    }
}

impl Callback for PrintModelSummary {
    fn name(&self) -> &'static str {
        "print_model_summary"
    }

    fn on_fit_start(&mut self, fit: &FitStart<'_>) -> Result<()> {
        let mut summary = ModelSummary::new(fit.parameters).with_depth(self.depth);
        for state in fit.optimizer_states()? {
            summary = summary.with_optimizer_state(&state);
        }
        eprint!("{summary}");
        Ok(())
    }
}
