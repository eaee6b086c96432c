//! The loop: epochs, batches and steps, until something ends it. What comes after a batch, a step and an epoch is in [`after`].

mod after;

use std::time::Instant;

use tracing::{debug_span, info_span};

use crate::bounds::Bounds;
use crate::checkpoint::Saver;
use crate::evaluate::Evaluation;
use crate::event::Optimizers;
use crate::followers::Lent;
use crate::forward::Forward;
use crate::interrupt::Interrupt;
use crate::run::{Group, Run};
use crate::source::Data;
use crate::{
    EndReason, Error, Fit, FitStart, Limit, Metrics, OnInterrupt, Position, Result, Step, Trainer,
    TrainingModule,
};

/// A fit: what is trained, and whoever follows it.
pub(crate) struct Fitting<'a, M: TrainingModule> {
    trainer: &'a Trainer,
    module: &'a M,
    model: M::Model,
    run: Run<'a>,
    followers: Lent<'a>,
    on_step: &'a mut dyn FnMut(&Step<'_>) -> Result<()>,
    saver: Option<Saver>,
    interrupt: Option<Interrupt>,
    started: Instant,
    /// Of the last validation.
    metrics: Metrics,
}

pub(crate) type Validation<'v, 'd, M> = Option<&'v mut (dyn Data<<M as TrainingModule>::Batch> + 'd)>;

impl<'a, M: TrainingModule> Fitting<'a, M> {
    pub(crate) fn new(
        trainer: &'a Trainer,
        module: &'a M,
        on_step: &'a mut dyn FnMut(&Step<'_>) -> Result<()>,
    ) -> Result<Self> {
        let started = Instant::now();
        let settings = &trainer.settings;
        let (mut run, model) = Run::start(trainer, module)?;
        let mut followers = Lent::by(trainer)?;
        let states = run.callbacks();
        followers.load(&states)?;
        let dry = settings.run.fast_dev_run.is_some();
        run.collects = !dry && !followers.loggers.is_empty();
        let checkpoint = settings.checkpoint.as_ref().filter(|_| !dry);
        let saver = checkpoint.map(|checkpoint| Saver::new(checkpoint, &states)).transpose()?;
        let interrupt = match settings.run.on_interrupt {
            OnInterrupt::Stop => Some(Interrupt::watch()?),
            OnInterrupt::Ignore => None,
        };
        let metrics = Metrics::default();
        Ok(Self { trainer, module, model, run, followers, on_step, saver, interrupt, started, metrics })
    }

    /// Trains to the end, and hands over what came of it.
    pub(crate) fn run(
        mut self,
        data: &mut dyn Data<M::Batch>,
        validation: Validation<'_, '_, M>,
    ) -> Result<Fit<M::Model>> {
        let end = self.train(data, validation);
        let end = self.close(end);
        let Self { run, model, metrics, mut followers, .. } = self;
        run.finish(model, end, metrics, &mut followers)
    }

    fn train(
        &mut self,
        data: &mut dyn Data<M::Batch>,
        mut validation: Validation<'_, '_, M>,
    ) -> Result<EndReason> {
        let bounds = Bounds::new(self.trainer, data, validation.as_deref())?;
        self.start(&bounds, validation.as_deref_mut())?;
        loop {
            let at = self.position();
            if let Some(reason) = bounds.end(at) {
                return Ok(reason);
            }
            let _span = info_span!("epoch", epoch = at.epoch).entered();
            let Some(batches) = data.open(bounds.data_epoch(at.epoch), at.batch)? else {
                return Ok(EndReason::DataEnd);
            };
            if let Some(reason) = self.epoch(batches, &bounds, validation.as_deref_mut())? {
                return Ok(reason);
            }
            if self.position().batch == 0 {
                return if data.repeats() {
                    Err(Error::NoData { what: "fit" })
                } else {
                    Ok(EndReason::DataEnd)
                };
            }
            if let Some(reason) = self.end_of_epoch(&bounds, validation.as_deref_mut())? {
                return Ok(reason);
            }
        }
    }

    fn start(&mut self, bounds: &Bounds, validation: Validation<'_, '_, M>) -> Result<()> {
        let Trainer { precision, accelerator, device, .. } = self.trainer;
        let settings = self.run.hyperparameters();
        let fit = FitStart {
            precision: *precision,
            accelerator: *accelerator,
            device,
            parameters: &self.run.progress.parameters,
            max_steps: bounds.max_steps,
            max_epochs: bounds.max_epochs,
            steps_per_epoch: bounds.steps_per_epoch(),
            resumed_at: self.run.progress.position,
            settings: &settings,
            optimizers: Optimizers(&self.run.progress.update.optimizers),
        };
        self.followers.start(&fit, if self.run.collects { Some(&settings) } else { None })?;
        let sanity = self.trainer.settings.run.sanity_batches();
        match validation {
            Some(data) if sanity > 0 && bounds.validates() && self.position() == Position::default() => {
                self.evaluated(data, Limit::Batches(sanity)).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// The batches of an epoch; why the fit is to end, if it is.
    fn epoch(
        &mut self,
        batches: Box<dyn Iterator<Item = Result<M::Batch>> + '_>,
        bounds: &Bounds,
        mut validation: Validation<'_, '_, M>,
    ) -> Result<Option<EndReason>> {
        let mut batches = batches.take(bounds.left(self.position())).peekable();
        loop {
            if let Some(reason) = self.asked_to_end() {
                return Ok(Some(reason));
            }
            let Some(batch) = batches.next() else { break };
            let completes = self.run.is_almost_full() || batches.peek().is_none();
            let group = if completes { Group::Completes } else { Group::Continues };
            let Position { step, batch: index, .. } = self.position();
            let span = debug_span!("batch", batch = index, step);
            let train = || self.run.batch((self.module, &self.model), batch?, group, &mut self.followers);
            let taken = span.in_scope(train)?;
            let is_over = batches.peek().is_none();
            if let Some(reason) = self.after_batch(taken, is_over, bounds, validation.as_deref_mut())? {
                return Ok(Some(reason));
            }
        }
        // A state of the middle of a step was gone on from at the data's end.
        if self.run.progress.group.batches > 0 {
            let taken = self.run.complete(&mut self.followers)?;
            return self.after_step(taken, bounds);
        }
        Ok(None)
    }

    fn position(&self) -> Position {
        self.run.progress.position
    }

    /// Why the fit is to end now, if somebody or the clock says so.
    fn asked_to_end(&self) -> Option<EndReason> {
        if self.interrupt.as_ref().is_some_and(Interrupt::is_asked) {
            return Some(EndReason::Interrupted);
        }
        let limit = self.trainer.settings.run.max_time;
        limit.is_some_and(|limit| self.started.elapsed() >= limit).then_some(EndReason::MaxTime)
    }

    fn evaluated(&self, data: &mut dyn Data<M::Batch>, limit: Limit) -> Result<Metrics> {
        let forward = Forward::queued(self.trainer);
        self.trainer.evaluate(Evaluation::Validation, (self.module, &self.model), data, limit, forward)
    }
}
