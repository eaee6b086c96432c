//! The end of a fit: its numbers are read, whoever follows it is told, and what was trained is handed over.

use std::sync::Arc;

use super::Run;
use crate::followers::Followers;
use crate::{EndReason, Error, Fit, FitEnd, Metrics, Result};

impl Run<'_> {
    /// What training gave, or why it ended and what it gave until then.
    pub(crate) fn finish<Model>(
        mut self,
        model: Model,
        end: Result<EndReason>,
        metrics: Metrics,
        followers: &mut Followers,
    ) -> Result<Fit<Model>> {
        // Reading the losses waits for the device, so that every skipped step is known after it. A device that has failed
        // ends the fit as any other error does.
        let (losses, end) = match self.read_losses() {
            Ok(losses) => (losses, end),
            Err(error) => (Vec::new(), end.and(Err(error))),
        };
        let end = end.and_then(|reason| self.some_number(&losses, reason));
        let reason = end.as_ref().map_or_else(|error| EndReason::Failed(error.to_string()), Clone::clone);
        let told = followers.end(&FitEnd {
            position: self.progress.position,
            reason: reason.clone(),
            skipped_steps: self.progress.update.skipped_steps(),
            losses: &losses,
            metrics: &metrics,
            parameters: &self.progress.parameters,
            notices: &self.notices,
        });
        let end = end.and_then(|reason| told.map(|()| reason));
        let end = match end {
            // Nothing was trained that could be kept.
            Err(error) if self.steps == 0 && self.progress.group.losses.is_empty() => return Err(error),
            end => end,
        };
        let end = end.and_then(|reason| self.something_trained(reason));
        if self.trainer.device.is_cpu() {
            autocast::release_host_memory();
        }
        let fit = Fit {
            losses,
            skipped_steps: self.progress.update.skipped_steps(),
            parameters: self.progress.parameters.clone(),
            notices: self.notices,
            reason,
            position: self.progress.position,
            metrics,
            model: (),
            callbacks: followers.states(),
            progress: Arc::new(self.progress),
        };
        match end {
            Ok(_) => Ok(fit.with_model(model)),
            Err(error @ (Error::NoData { .. } | Error::NothingTrained { .. })) => Err(error),
            Err(source) => Err(Error::Stopped {
                step: fit.progress.batches,
                fit: Box::new(fit),
                source: Box::new(source),
            }),
        }
    }

    /// The loss of each step: the mean over its batches. Waits for the device.
    fn read_losses(&mut self) -> Result<Vec<f64>> {
        let losses = self.losses.read_all()?;
        if self.progress.update.accumulate == 1 {
            return Ok(losses.to_vec());
        }
        let mut from = 0;
        let mean = |&size: &usize| {
            let batches = &losses[from..from + size];
            from += size;
            batches.iter().sum::<f64>() / size as f64
        };
        Ok(self.sizes.iter().map(mean).collect())
    }

    /// # Errors
    /// Where there are losses and none is a number.
    fn some_number(&self, losses: &[f64], reason: EndReason) -> Result<EndReason> {
        if !losses.is_empty() && losses.iter().all(|loss| !loss.is_finite()) {
            return Err(Error::NeverFinite { steps: losses.len() });
        }
        Ok(reason)
    }

    /// # Errors
    /// Where the data came to their end and no step was taken.
    fn something_trained(&self, reason: EndReason) -> Result<EndReason> {
        let batches = self.progress.batches - self.batches_before;
        let ran_out = matches!(reason, EndReason::DataEnd | EndReason::MaxEpochs | EndReason::MaxSteps);
        match (self.steps, batches) {
            (0, 0) if reason == EndReason::DataEnd => Err(Error::NoData { what: "fit" }),
            (0, batches) if batches > 0 && ran_out => Err(Error::NothingTrained { batches }),
            _ => Ok(reason),
        }
    }
}
