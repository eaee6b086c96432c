//! Forward passes of an evaluation: as the module writes them, or replayed where passes are recorded as CUDA graphs.
//!
//! What a replay gives is copied, as the next one overwrites it. Casts of parameters are kept from batch to batch, and a recording
//! reads them where they lie: once one was dropped, it is another [`Form`] that is recorded.

use autocast::{RecordedStep, Recording, record_step, rehearse_step};
use candle_core::{Tensor, Var};

use crate::run::forms::{Form, Next, Recordings, Stage};
use crate::run::recorded::{Batched, Records, made_on};
use crate::{Batch, Result, StepOutput, Trainer};

/// What a forward pass gives.
pub(crate) trait Given: Sized {
    /// The same of other tensors.
    fn map(&self, f: &mut dyn FnMut(&str, &Tensor) -> Result<Tensor>) -> Result<Self>;
}

impl Given for Tensor {
    fn map(&self, f: &mut dyn FnMut(&str, &Tensor) -> Result<Tensor>) -> Result<Self> {
        f("what predict_step gives", self)
    }
}

impl Given for StepOutput {
    fn map(&self, f: &mut dyn FnMut(&str, &Tensor) -> Result<Tensor>) -> Result<Self> {
        let metrics = self.metrics.iter().map(|(name, value)| Ok((name.clone(), f(name, value)?)));
        let metrics = metrics.collect::<Result<_>>()?;
        Ok(Self { loss: f("loss", &self.loss)?, metrics, samples: self.samples })
    }
}

/// A recorded pass. Its tensors go before the graph whose memory they have.
struct Recorded<T> {
    given: T,
    batch: Vec<Var>,
    step: RecordedStep,
}

/// The forward passes of one evaluation.
pub(crate) struct Forward<'a, T> {
    trainer: &'a Trainer,
    /// Where they are to be recorded.
    recordings: Option<Recordings<Recorded<T>>>,
}

impl<'a, T: Given> Forward<'a, T> {
    /// Recorded where the trainer records.
    pub(crate) fn new(trainer: &'a Trainer) -> Self {
        Self { trainer, recordings: trainer.records_passes().then(Recordings::default) }
    }

    /// As the module writes them: in the validations of a fit, whose recordings would be made anew each time and take its memory.
    pub(crate) fn queued(trainer: &'a Trainer) -> Self {
        Self { trainer, recordings: None }
    }

    /// `pass` over the `nth` batch.
    pub(crate) fn of<B: Batch>(&mut self, nth: u64, batch: B, pass: impl Fn(&B) -> Result<T>) -> Result<T> {
        let Some(recordings) = &mut self.recordings else { return pass(&batch) };
        let batch = Batched::new(batch, Records::Passes)?;
        let dropped = autocast::cache_stats().dropped;
        let (next, told) = recordings.next(Form::of(&batch.tensors).map(|form| Form { dropped, ..form }));
        told.into_iter().for_each(|why| drop(recordings.tell(self.trainer, why)));
        match next {
            Next::Queue => pass(&batch.batch),
            Next::Rehearse => rehearse_step(&self.trainer.device, || pass(&batch.batch)),
            Next::Record(at) => self.record(at, nth, batch, pass),
            Next::Replay(at) => {
                let Some((_, Stage::Ready(recorded))) = recordings.forms.get(at) else {
                    return pass(&batch.batch);
                };
                recorded.batch.iter().zip(&batch.tensors).try_for_each(|(input, value)| input.set(value))?;
                recorded.step.replay(nth)?;
                recorded.given.map(&mut |_, value| Ok(value.copy()?))
            }
        }
    }

    fn record<B: Batch>(
        &mut self,
        at: usize,
        nth: u64,
        batch: Batched<B>,
        pass: impl Fn(&B) -> Result<T>,
    ) -> Result<T> {
        let device = &self.trainer.device;
        let (Batched { batch, .. }, inputs) = batch.in_place()?;
        let recording = record_step(device, nth, || {
            pass(&batch)?.map(&mut |name, value| made_on(device, name, value).map(|()| value.clone()))
        })?;
        let (stage, given) = match recording {
            Recording::Ready(step, given) => {
                let first = given.map(&mut |_, value| Ok(value.copy()?));
                (Stage::Ready(Box::new(Recorded { given, batch: inputs, step })), first)
            }
            Recording::Refused(why) => {
                self.recordings.as_mut().and_then(|recordings| recordings.tell(self.trainer, why));
                (Stage::Refused, pass(&batch))
            }
        };
        if let Some(recordings) = &mut self.recordings {
            recordings.forms[at].1 = stage;
        }
        given
    }
}
