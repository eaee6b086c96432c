//! The settings of the loop in steps, epochs and batches of the data at hand.

use crate::source::Data;
use crate::{EndReason, Error, Limit, Position, Result, Trainer};

/// How far a fit goes, and when it is validated.
pub(crate) struct Bounds {
    pub(crate) max_steps: Option<usize>,
    pub(crate) max_epochs: Option<usize>,
    /// Batches of an epoch, where that is known.
    batches: Option<usize>,
    accumulate: usize,
    /// Whether every epoch is the first one.
    is_overfitting: bool,
    repeats: bool,
    /// How much a validation sees.
    pub(crate) validation: Limit,
    /// Batches between validations within an epoch.
    interval: Option<usize>,
    /// Epochs between validations.
    epochs: usize,
}

impl Bounds {
    /// # Errors
    /// Data that do not have what a setting needs.
    pub(crate) fn new<B>(
        trainer: &Trainer,
        data: &dyn Data<B>,
        validation: Option<&(dyn Data<B> + '_)>,
    ) -> Result<Self> {
        let settings = &trainer.settings.run;
        let again = "can be gone through again";
        if settings.overfit.is_some() && !data.repeats() {
            return Err(Error::Data { setting: "overfit_batches", needs: again });
        }
        if validation.is_some_and(|validation| !validation.repeats()) {
            return Err(Error::Data { setting: "fit_validated", needs: again });
        }
        let len = data.batches();
        let limit = |limit: Limit| settings.overfit.map_or(settings.limit(limit), Limit::Batches);
        let batches = limit(settings.limit_train).of(len, "limit_train_batches")?;
        let interval = match settings.val_check_interval {
            Limit::All => None,
            Limit::Batches(batches) => Some(batches),
            share => share.of(batches, "val_check_interval")?.map(|batches| batches.max(1)),
        };
        Ok(Self {
            max_steps: settings.steps(),
            max_epochs: settings.epochs(),
            batches,
            accumulate: trainer.settings.steps.accumulate,
            is_overfitting: settings.overfit.is_some(),
            repeats: data.repeats(),
            validation: limit(settings.limit_val),
            interval,
            epochs: settings.check_val_every_n_epoch.unwrap_or(1),
        })
    }

    /// Which bound is reached, if any is.
    pub(crate) fn end(&self, at: Position) -> Option<EndReason> {
        if self.max_steps.is_some_and(|max| at.step >= max) {
            return Some(EndReason::MaxSteps);
        }
        self.max_epochs.is_some_and(|max| at.epoch >= max).then_some(EndReason::MaxEpochs)
    }

    /// The epoch of the data that is trained on.
    pub(crate) fn data_epoch(&self, epoch: usize) -> usize {
        if self.is_overfitting { 0 } else { epoch }
    }

    /// The batches that are left of an epoch, as far as that is known.
    pub(crate) fn left(&self, at: Position) -> usize {
        self.batches.map_or(usize::MAX, |batches| batches.saturating_sub(at.batch))
    }

    pub(crate) fn steps_per_epoch(&self) -> Option<usize> {
        self.batches.map(|batches| batches.div_ceil(self.accumulate))
    }

    /// Whether no step follows the one at `at`; the epoch may be over with it.
    pub(crate) fn is_last(&self, at: Position, is_over: bool) -> bool {
        let last_epoch = !self.repeats || self.max_epochs.is_some_and(|max| at.epoch + 1 >= max);
        self.max_steps.is_some_and(|max| at.step >= max) || (is_over && last_epoch)
    }

    /// Whether a validation sees anything.
    pub(crate) fn validates(&self) -> bool {
        self.validation != Limit::Batches(0) && self.validation != Limit::Share(0.)
    }

    fn in_turn(&self, epochs: usize) -> bool {
        self.validates() && epochs.is_multiple_of(self.epochs)
    }

    /// Whether a validation follows a batch.
    pub(crate) fn validates_within(&self, at: Position) -> bool {
        self.in_turn(at.epoch + 1) && self.interval.is_some_and(|n| at.batch.is_multiple_of(n))
    }

    /// Whether a validation follows the end of the last of so many epochs.
    pub(crate) fn validates_after(&self, epochs: usize) -> bool {
        self.interval.is_none() && self.in_turn(epochs)
    }
}
