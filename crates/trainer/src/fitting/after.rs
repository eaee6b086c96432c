//! What comes after a batch, a step and an epoch: whoever follows the fit, the logs, validations and checkpoints.

use super::{Fitting, Validation};
use crate::bounds::Bounds;
use crate::checkpoint::Moment;
use crate::run::Taken;
use crate::{EndReason, Result, Step, TrainingModule};

impl<M: TrainingModule> Fitting<'_, M> {
    /// Why the fit is to end, if it is. Where the epoch is over, its end comes first.
    pub(super) fn after_batch(
        &mut self,
        taken: Option<Taken>,
        is_over: bool,
        bounds: &Bounds,
        validation: Validation<'_, '_, M>,
    ) -> Result<Option<EndReason>> {
        let is_last = bounds.is_last(self.position(), is_over);
        let is_step = taken.is_some();
        let mut stop = self.tell(taken, is_last)?;
        let at = self.position();
        if let (Some(data), true) = (validation, bounds.validates_within(at)) {
            stop = self.validate(data, bounds)?.or(stop);
        }
        if is_step {
            self.save(Moment::Step)?;
        }
        let end = bounds.end(at).filter(|_| !is_over);
        Ok(stop.map(EndReason::Stopped).or(end))
    }

    /// After a step that a resumed state was in the middle of.
    pub(super) fn after_step(&mut self, taken: Option<Taken>, bounds: &Bounds) -> Result<Option<EndReason>> {
        let is_last = bounds.is_last(self.position(), true);
        let stop = self.tell(taken, is_last)?;
        self.save(Moment::Step)?;
        Ok(stop.map(EndReason::Stopped))
    }

    /// Tells of a step, where one was taken; why the fit is to stop, if it is.
    fn tell(&mut self, taken: Option<Taken>, is_last: bool) -> Result<Option<String>> {
        let Some(taken) = taken else { return Ok(None) };
        self.run.check_numbers()?;
        let step = Step::new(&taken, &self.run.progress, is_last);
        let stop = self.followers.step(&step)?;
        (self.on_step)(&step)?;
        let mut numbers = step.logged.into_inner();
        let number = self.position().step;
        if self.run.collects {
            if number.is_multiple_of(self.trainer.settings.run.log_every()) {
                numbers.extend(self.run.numbers()?);
            }
            self.followers.log(number, &numbers)?;
        }
        Ok(stop)
    }

    pub(super) fn end_of_epoch(
        &mut self,
        bounds: &Bounds,
        validation: Validation<'_, '_, M>,
    ) -> Result<Option<EndReason>> {
        let position = &mut self.run.progress.position;
        (position.epoch, position.batch) = (position.epoch + 1, 0);
        let at = *position;
        let mut stop = None;
        if let (Some(data), true) = (validation, bounds.validates_after(at.epoch)) {
            stop = self.validate(data, bounds)?;
        }
        self.save(Moment::Epoch)?;
        Ok(stop.map(EndReason::Stopped))
    }

    fn validate(&mut self, data: &mut dyn crate::Data<M::Batch>, bounds: &Bounds) -> Result<Option<String>> {
        self.metrics = self.evaluated(data, bounds.validation)?;
        let at = self.position();
        if self.run.collects {
            self.followers.log(at.step, self.metrics.as_slice())?;
        }
        let stop = self.followers.validated(&self.metrics, &at)?;
        self.save(Moment::Validation)?;
        Ok(stop)
    }

    /// Writes a checkpoint, if it is time. One of a run in which no loss is a number would put it in the place of a good one.
    fn save(&mut self, moment: Moment) -> Result<()> {
        let Some(saver) = &mut self.saver else { return Ok(()) };
        if self.run.is_hopeless() {
            return Ok(());
        }
        let (progress, followers) = (&self.run.progress, &mut self.followers);
        saver.at(moment, progress.position, &self.metrics, || {
            followers.flush()?;
            progress.state(followers.states())
        })
    }

    /// The last checkpoint, unless the fit has failed.
    pub(super) fn close(&mut self, end: Result<EndReason>) -> Result<EndReason> {
        let end = end.and_then(|reason| {
            self.run.losses.read_all()?;
            self.save(Moment::End)?;
            Ok(reason)
        });
        let written = self.saver.as_mut().map_or(Ok(()), |saver| saver.wait());
        end.and_then(|reason| written.map(|()| reason))
    }
}
